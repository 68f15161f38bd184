import type { Command } from 'commander';
import { DEFAULT_TIMEOUT_MS } from '../../backend/collectives';
import { decimal } from './values';

export interface CommTimeoutOption {
  /** Seconds. */
  commTimeout?: number;
}

/** Adds --comm-timeout, which belongs to one start of a run. */
export function addCommTimeout(command: Command): Command {
  return command.option(
    '--comm-timeout <seconds>',
    'under mpirun: longest wait for another rank before the run ends, a number > 0; longer than a save, or a sample, takes ' +
      `(default: ${DEFAULT_TIMEOUT_MS / 1000})`,
    decimal({ above: 0 }),
  );
}
