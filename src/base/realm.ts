/**
 * Values of other realms. Node's main realm makes what arrives from another thread. In a vm context, such as a test in jest
 * or vitest's vmThreads, such an array is not `instanceof Float32Array`.
 */
import { types } from 'node:util';

type View = ArrayLike<number> & ArrayBufferView & { readonly [Symbol.toStringTag]: string };

/** The array types that are sent between threads. */
const VIEWS: Readonly<Record<string, new (from: never, offset?: number, length?: number) => unknown>> = {
  Float32Array,
  Float64Array,
  Int32Array,
  Uint8Array,
  Uint16Array,
};

/** A message with values of this realm; the message itself if it is of this realm already. */
export function ofThisRealm<T extends object>(message: T): T {
  return message instanceof Object ? message : inThisRealm(message);
}

/** Copies a structured clone into this realm; shared memory is not copied. */
export function inThisRealm<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return Array.from(value, inThisRealm) as T;
  if (ArrayBuffer.isView(value)) return viewInThisRealm(value as unknown as View) as T;
  const entries = Object.entries(value).map(([name, each]) => [name, inThisRealm(each)]);
  return Object.fromEntries(entries) as T;
}

function viewInThisRealm(view: View): unknown {
  const type = VIEWS[view[Symbol.toStringTag]];
  if (type === undefined) return view;
  if (!types.isSharedArrayBuffer(view.buffer)) return new type(view as never);
  return new type(view.buffer as never, view.byteOffset, view.length);
}
