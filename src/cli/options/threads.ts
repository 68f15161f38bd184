import type { Command } from 'commander';
import { ENGINE_OPTIONS } from '../../serve/engine/options';
import { addTableOptions } from './tableOptions';

/** Adds --threads. */
export function addThreadsOption(command: Command): Command {
  return addTableOptions(command, { threads: ENGINE_OPTIONS.threads });
}
