import { SgemoeError } from './errors';
import { formatBytes } from './formatBytes';
import { type AvailableMemory, availableMemory } from './machineMemory';

/** Bytes that each part needs; a part that is left out or 0 isn't needed. */
export interface MemoryNeeds {
  weights?: number | undefined;
  packed?: number | undefined;
  gradients?: number | undefined;
  moments?: number | undefined;
  cache?: number | undefined;
  activations?: number | undefined;
  exchange?: number | undefined;
  /** What the caches of engines that are open may still take. */
  engines?: number | undefined;
}

const NAMES: Readonly<Record<keyof MemoryNeeds, string>> = {
  weights: 'weights',
  packed: 'packed copies of them',
  gradients: 'gradients',
  moments: 'moments',
  cache: 'key-value cache',
  activations: 'activations',
  exchange: 'exchange between ranks',
  engines: 'caches of other engines',
};

/** Smaller requests, in bytes, skip the check: reading the machine's memory takes longer than the allocation. */
const LEAST_CHECKED_BYTES = 64e6;

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/**
 * Checks that the machine has the memory before it is allocated: without it the system would kill the process without a
 * message. Call it wherever a user's model decides the size. SGEMOE_MEMORY_LIMIT replaces the machine's figure.
 * @param what takes the memory; it begins the message.
 * @throws SgemoeError SGEMOE_MEMORY with both figures; RangeError for an invalid SGEMOE_MEMORY_LIMIT.
 */
export function requireMemory(
  what: string,
  needs: MemoryNeeds,
  available: () => AvailableMemory = availableMemory,
): void {
  const parts = (Object.keys(NAMES) as (keyof MemoryNeeds)[]).filter((part) => (needs[part] ?? 0) > 0);
  const total = parts.reduce((sum, part) => sum + (needs[part] ?? 0), 0);
  const limit = memoryLimit();
  if (limit === null && total < LEAST_CHECKED_BYTES) return;
  const there = limit ?? available();
  if (total <= there.bytes) return;
  const list = parts.map((part) => `${NAMES[part]} ${formatBytes(needs[part] ?? 0)}`).join(', ');
  throw new SgemoeError(
    'SGEMOE_MEMORY',
    `${what} takes ${formatBytes(total)} of memory (${list}), but ${formatBytes(there.bytes)} are available ` +
      `${there.where}. If swap makes up for it, set SGEMOE_MEMORY_LIMIT=none.`,
  );
}

/** SGEMOE_MEMORY_LIMIT; null if it isn't set. */
function memoryLimit(): AvailableMemory | null {
  const text = process.env.SGEMOE_MEMORY_LIMIT;
  if (text === undefined || text === '') return null;
  const where = 'by SGEMOE_MEMORY_LIMIT';
  if (text === 'none') return { bytes: Number.POSITIVE_INFINITY, where };
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([kmgt]i?b|)$/.exec(text.toLowerCase()) ?? [];
  if (number !== undefined) return { bytes: Number(number) * UNITS[unit], where };
  throw new RangeError(`SGEMOE_MEMORY_LIMIT must be bytes, such as 12GB or 8GiB, or 'none', got '${text}'`);
}
