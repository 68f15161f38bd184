/**
 * A number in [0, 2^32) that key and counter decide, both integers in [0, 2^32): the finalizer of MurmurHash3 (Appleby 2011)
 * over the counter and again over the sum with the key. It serves where a stream of draws must not depend on their order.
 */
export function counterRandom(key: number, counter: number): number {
  return finalized((finalized(counter) + key) | 0) >>> 0;
}

function finalized(x: number): number {
  let h = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
