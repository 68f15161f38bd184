/**
 * How the ranks of a run stay together where they would part: each of these functions is called by all ranks at the same place, and
 * returns the same on all. With one rank they cost nothing.
 */
import type { Collectives } from '../../backend/collectives';
import { ERROR_CODES, type ErrorCode, SgemoeError } from '../../base/errors';

/** Errors that all ranks throw at the same place, so that none has to tell the others. */
const agreed = new WeakSet<object>();

/** Whether every rank has thrown this error, or its own copy of it, at the same place. */
export function isAgreed(error: unknown): boolean {
  return typeof error === 'object' && error !== null && agreed.has(error);
}

/** Runs what throws on every rank or on none, since it depends only on what all ranks have. */
export function alikeOnAll<T>(job: () => T): T {
  try {
    return job();
  } catch (error) {
    throw agreedOn(error);
  }
}

/** The sums over all ranks of the numbers that each has, one by one. */
export async function sumOverRanks(ranks: Collectives, numbers: readonly number[]): Promise<Float64Array> {
  const sums = Float64Array.from(numbers);
  if (ranks.size > 1) await ranks.sumDoubles(sums, 0, sums.length).settled();
  return sums;
}

/** For each of `flags`, whether it is set on any rank. */
export async function anyRank(ranks: Collectives, ...flags: readonly boolean[]): Promise<boolean[]> {
  return Array.from(await sumOverRanks(ranks, flags.map(Number)), (count) => count > 0);
}

/** Another rank was told to stop, this one wasn't. */
class OtherRankStopped extends Error {
  override readonly name = 'AbortError';
  override readonly message = 'another rank was told to stop';
}

/** Whether an error is the end that `signal` asked for, on this rank or another. */
export function isStop(error: unknown, signal: AbortSignal | undefined): boolean {
  return error instanceof OtherRankStopped || (signal?.aborted === true && error === signal.reason);
}

/** Throws the signal's reason if it is aborted, on every rank if on one; a rank may have none. */
export async function throwIfAnyAborted(ranks: Collectives, signal: AbortSignal | undefined): Promise<void> {
  const [stops] = await anyRank(ranks, signal?.aborted ?? false);
  if (!stops) return;
  if (signal?.aborted) throw signal.reason;
  throw new OtherRankStopped();
}

/**
 * Runs a job on rank 0 and gives all ranks what it returns, which must be a value of JSON.
 * @param meanwhile what the others do until then, if the job needs them.
 * @throws what the job throws, on every rank; others than rank 0 throw a copy.
 */
export async function fromFirst<T = void>(
  ranks: Collectives,
  job: () => Promise<T>,
  meanwhile?: () => Promise<void>,
): Promise<T> {
  if (ranks.size === 1) return job();
  if (ranks.rank !== 0) await meanwhile?.();
  const outcome = ranks.rank === 0 ? await outcomeOf(job) : null;
  const texts = await exchangeTexts(ranks, outcome === null ? '' : JSON.stringify(told(outcome)));
  const first = outcome ?? heard<T>(JSON.parse(texts[0]), '');
  if ('error' in first) throw agreedOn(first.error);
  return first.value as T;
}

/**
 * Runs a job on every rank, and returns once it has succeeded on all. The job calls no collectives once it may have failed on one
 * rank alone.
 * @throws on every rank when it failed on one: the rank's own error, else a copy of the first rank's that has one, with its number.
 */
export async function together<T>(ranks: Collectives, job: () => Promise<T>): Promise<T> {
  if (ranks.size === 1) return job();
  const outcome = await outcomeOf(job);
  const texts = await exchangeTexts(ranks, 'error' in outcome ? JSON.stringify(told(outcome)) : '');
  if ('error' in outcome) throw agreedOn(outcome.error);
  const failed = texts.findIndex((text) => text !== '');
  if (failed < 0) return outcome.value;
  throw agreedOn((heard(JSON.parse(texts[failed]), `rank ${failed}: `) as Failure).error);
}

interface Failure {
  error: unknown;
}
type Outcome<T> = { value: T } | Failure;

/** What is told of an outcome. */
interface Told {
  value?: unknown;
  message?: string;
  code?: string;
  syscall?: string;
}

async function outcomeOf<T>(job: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await job() };
  } catch (error) {
    return { error };
  }
}

function told(outcome: Outcome<unknown>): Told {
  if ('value' in outcome) return { value: outcome.value };
  const { error } = outcome;
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, code, syscall } = error as NodeJS.ErrnoException;
  return { message, ...(code && { code }), ...(syscall && { syscall }) };
}

function heard<T>({ value, message, code, syscall }: Told, prefix: string): Outcome<T> {
  if (message === undefined) return { value: value as T };
  const text = prefix + message;
  if (code !== undefined && code in ERROR_CODES) return { error: new SgemoeError(code as ErrorCode, text) };
  return { error: Object.assign(new Error(text), code && { code }, syscall && { syscall }) };
}

function agreedOn(error: unknown): unknown {
  if (typeof error === 'object' && error !== null) agreed.add(error);
  return error;
}

/** Gives all ranks the text of each. */
async function exchangeTexts(ranks: Collectives, text: string): Promise<string[]> {
  const { rank, size } = ranks;
  const own = new TextEncoder().encode(text);
  const lengths = new Int32Array(size);
  lengths[rank] = own.length;
  await ranks.allGather(lengths, 0, new Array(size).fill(1)).settled();
  const ends = Array.from(lengths, (_, r) => lengths.subarray(0, r + 1).reduce((sum, n) => sum + n, 0));
  const bytes = new Uint8Array(ends[size - 1]);
  if (bytes.length === 0) return new Array(size).fill('');
  bytes.set(own, ends[rank] - own.length);
  await ranks.allGather(bytes, 0, lengths).settled();
  return Array.from(lengths, (n, r) => new TextDecoder().decode(bytes.subarray(ends[r] - n, ends[r])));
}
