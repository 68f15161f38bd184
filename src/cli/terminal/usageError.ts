import { CommanderError } from 'commander';
import { type ErrorCode, SgemoeError } from '../../base/errors';
import { Interrupted } from './interrupt';
import { type CliIo, EXIT } from './io';

/** The command line asks for something impossible; the message says what, and what would be right. */
export class UsageError extends Error {}

/** Codes of failures that another path or value on the command line would fix. */
const USAGE_CODES: readonly ErrorCode[] = [
  'SGEMOE_CHECKPOINT_NOT_FOUND',
  'SGEMOE_DATA_NOT_FOUND',
  'SGEMOE_DATA_TOO_SHORT',
  'SGEMOE_DATA_INVALID',
  'SGEMOE_DATA_WRITE',
  'SGEMOE_TRAINING_STATE',
  'SGEMOE_RUN_FOLDER',
  'SGEMOE_TOKENIZER_INVALID',
  'SGEMOE_UNKNOWN_CHARACTER',
  'SGEMOE_CHAT_TEMPLATE',
];

/** Runs `action`; a TypeError or RangeError of the library blames the user's value, so it becomes a UsageError. */
export function asUsage<T>(action: () => T, rename: (message: string) => string = (message) => message): T {
  try {
    return action();
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof RangeError)) throw cause;
    throw new UsageError(rename(cause.message), { cause });
  }
}

/** Reports an error on stderr and returns the exit code. SGEMOE_DEBUG=1 adds the stack. */
export function reportError(error: unknown, { stderr, env }: CliIo): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const usage =
    error instanceof UsageError || (error instanceof SgemoeError && USAGE_CODES.includes(error.code));
  const message = error instanceof Error ? error.message : String(error);
  stderr.write(`sgemoe: ${message.replace(/^sgemoe: /, '')}\n`);
  if (env.SGEMOE_DEBUG === '1') stderr.write(`${stackOf(error)}\n`);
  if (error instanceof Interrupted) return EXIT.interrupted;
  return usage ? EXIT.usage : EXIT.failure;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack}${cause}`;
}
