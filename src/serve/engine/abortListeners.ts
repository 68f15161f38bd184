/**
 * One listener for each signal, however many requests it may end: Node takes more than ten on one signal for a leak, and
 * warns.
 */
const callbacks = new Map<AbortSignal, Set<() => void>>();

/** Calls `callback` when the signal, which isn't aborted yet, is, unless `unlisten` comes before. */
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
