import type { Command } from 'commander';
import { addCommTimeout, type CommTimeoutOption } from './commTimeout';
import { counts } from './values';

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
