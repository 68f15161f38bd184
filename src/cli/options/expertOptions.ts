import type { Command } from 'commander';
import type { Collectives } from '../../backend/collectives';
import type { ExpertRanks } from '../../model/expertLayout';
import { expertRanksOf } from '../../training/distributed/divided';
import { asUsage } from '../terminal/usageError';
import { addCommTimeout, type CommTimeoutOption } from './commTimeout';
import { counts, integer } from './values';

/** Options of commands whose model may be divided over ranks. */
export interface ExpertCliOptions extends CommTimeoutOption {
  expertCounts?: number[];
}

export function addExpertOptions(command: Command): Command {
  return addCommTimeout(command).option(
    '--expert-counts <list>',
    'under mpirun: experts of each rank, such as 0,4,4; rank 0 has the rest of the model, too (default: as even as can be)',
    counts,
  );
}

/** Options of commands whose ranks share a batch. */
export interface SharingCliOptions extends CommTimeoutOption {
  expertParallel?: number;
}

/** Adds --comm-timeout and --expert-parallel, which belong to one start of a run. */
export function addSharingOptions(command: Command): Command {
  return addCommTimeout(command).option(
    '--expert-parallel <n>',
    'under mpirun: neighbouring ranks that together have each expert once, a divisor of their number (default: 1, each has all)',
    integer(1),
  );
}

/** The ranks over which the experts are divided, if any. @throws UsageError */
export function sharedExperts(
  { expertParallel = 1 }: SharingCliOptions,
  collectives: Collectives,
): ExpertRanks | undefined {
  return asUsage(() => expertRanksOf(collectives, expertParallel), inExpertFlags);
}

/** Names the flag in the message of an error. */
export function inExpertFlags(message: string): string {
  return message.replace(/^expertParallel|^expertRanks(: groupSize)?/, '--expert-parallel');
}
