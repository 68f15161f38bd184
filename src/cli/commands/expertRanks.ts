/** Commands that serve a model over several ranks: rank 0 has the model and a part of the experts, the others answer it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Distributed } from '../../backend/collectives/distributed';
import type { ExpertRanks } from '../../model/expertLayout';
import { ExpertShard } from '../../model/expertShard';
import { fromFirst, together } from '../../training/distributed/agreement';
import type { DtypeCliOption } from '../options/dtypeOption';
import type { ExpertCliOptions } from '../options/expertOptions';
import { type HubCliOptions, runnablePath } from '../options/hubOptions';
import { type CliIo, EXIT } from '../terminal/io';
import { UsageError } from '../terminal/usageError';

interface LoadingOptions extends DtypeCliOption, HubCliOptions, ExpertCliOptions {}

/**
 * Loads a model on all ranks: on rank 0 what `load` makes of its path, on the others their experts. With one rank nothing is divided.
 * @throws on every rank when it fails on one.
 */
export async function loadOnRanks<T>(
  { collectives, rank, size }: Distributed,
  name: string,
  options: LoadingOptions,
  io: CliIo,
  load: (path: string, expertRanks: ExpertRanks | undefined) => Promise<T>,
): Promise<T | ExpertShard> {
  const { dtype, expertCounts } = options;
  // One download for all ranks of a host.
  if (size > 1) await fromFirst(collectives, async () => void (await runnablePath(name, options, io)));
  const expertRanks = size === 1 ? undefined : { collectives, counts: expertCounts };
  return together<T | ExpertShard>(collectives, async () => {
    requireCounts(expertCounts, size);
    const path = await runnablePath(name, options, io);
    if (rank === 0) return load(path, expertRanks).catch(blameCounts);
    return ExpertShard.load(path, { dtype, expertRanks: expertRanks! }).catch(blameCounts);
  });
}

function requireCounts(counts: readonly number[] | undefined, size: number): void {
  if (counts === undefined || counts.length === size) return;
  const ranks = size === 1 ? 'one rank: mpirun starts several' : `${size} ranks`;
  throw new UsageError(`--expert-counts must have a number for each rank, and there is ${ranks}.`);
}

/** Rethrows an error about the counts with the name of their flag. */
function blameCounts(error: unknown): never {
  const [, what] =
    /^expertRanks: (?:counts )?(.*)/.exec(error instanceof RangeError ? error.message : '') ?? [];
  throw what === undefined ? error : new UsageError(`--expert-counts ${what}`, { cause: error });
}

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];
const ignore = () => {};

/** Seconds in which rank 0 still tells its clients that a rank is lost. */
export const LOST_SECONDS = 5;
const MARGIN_SECONDS = 5;

/**
 * Answers rank 0 until it ends. Signals reach all ranks, and rank 0 decides what they mean.
 * @param lostSeconds how long rank 0 goes on when a rank is lost. @throws what has lost it.
 */
export async function followRank0(
  shard: ExpertShard,
  { collectives }: Distributed,
  io: CliIo,
  lostSeconds = 0,
): Promise<number> {
  for (const name of SIGNALS) io.signals.on(name, ignore);
  try {
    shard.answerAll();
    return EXIT.ok;
  } catch (error) {
    collectives.abort(error instanceof Error ? error.message : String(error));
    // With this process MPI ends all others: rank 0 has to come first.
    if (lostSeconds > 0) await sleep((lostSeconds + MARGIN_SECONDS) * 1000);
    throw error;
  } finally {
    for (const name of SIGNALS) io.signals.off(name, ignore);
  }
}
