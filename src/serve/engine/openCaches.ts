/** An engine's key-value cache, which takes memory only where tokens have been. */
interface OpenCache {
  readonly bytes: number;
  /** The share of it that tokens fill, in [0, 1]. */
  filled(): number;
}

/** The caches of the engines that are open in this thread. */
const open = new Set<OpenCache>();

/** Bytes that these caches may take beyond what they take now. */
export function promisedBytes(): number {
  return [...open].reduce((sum, { bytes, filled }) => sum + bytes * (1 - filled()), 0);
}

/** Counts a cache until the returned function is called. */
export function countCache(bytes: number, filled: () => number): () => void {
  const cache = { bytes, filled };
  open.add(cache);
  return () => open.delete(cache);
}
