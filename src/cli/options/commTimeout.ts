import type { Command } from 'commander';
import { decimal } from './values';

/** Longest wait of `Distributed.init` by default, in seconds. */
const DEFAULT_SECONDS = 300;

export interface CommTimeoutOption {
  /** Seconds. */
  commTimeout?: number;
}

/** Adds --comm-timeout, which belongs to one start of a run. */
export function addCommTimeout(command: Command): Command {
  return command.option(
    '--comm-timeout <seconds>',
    'under mpirun: longest wait for another rank before the run ends, a number > 0; longer than a save, or a sample, takes ' +
      `(default: ${DEFAULT_SECONDS})`,
    decimal({ above: 0 }),
  );
}
