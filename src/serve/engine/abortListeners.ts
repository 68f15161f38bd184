/**
 * The callbacks of each signal. A signal gets one listener, however many requests it may end, since Node warns of a leak
 * for more than ten.
 */
const callbacks = new Map<AbortSignal, Set<() => void>>();

/** Calls `callback` when the signal aborts, unless `unlisten` is called first. The signal must not be aborted yet. */
export function listen(signal: AbortSignal, callback: () => void): void {
  const known = callbacks.get(signal);
  if (known !== undefined) known.add(callback);
  else {
    callbacks.set(signal, new Set([callback]));
    signal.addEventListener('abort', callAll);
  }
}

export function unlisten(signal: AbortSignal, callback: () => void): void {
  const known = callbacks.get(signal);
  if (known === undefined) return;
  known.delete(callback);
  if (known.size > 0) return;
  callbacks.delete(signal);
  signal.removeEventListener('abort', callAll);
}

function callAll({ target }: Event): void {
  for (const callback of [...(callbacks.get(target as AbortSignal) ?? [])]) callback();
}
