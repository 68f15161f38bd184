/**
 * Values of other realms. What comes from another thread is made by Node's own realm: in a vm context, such as that of a test in
 * jest or in vitest's vmThreads, its arrays are no `instanceof Float32Array`.
 */
import { types } from 'node:util';

type View = ArrayLike<number> & ArrayBufferView & { readonly [Symbol.toStringTag]: string };

/** Kinds of arrays that go between threads. */
const VIEWS: Readonly<Record<string, new (from: never, offset?: number, length?: number) => unknown>> = {
  Float32Array,
  Float64Array,
  Int32Array,
};

/** A message as this realm would have made it: itself, where it is of this realm already. */
export function ofThisRealm<T extends object>(message: T): T {
  return message instanceof Object ? message : inThisRealm(message);
}

/** A copy, of this realm, of what structured cloning made; only shared memory is not copied. */
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
