import { CommanderError } from 'commander';
import { type ErrorCode, SgemoeError } from '../../base/errors';
import { Interrupted } from './interrupt';
import { type CliIo, EXIT } from './io';

/**
 * The command line itself is wrong: the message says what, and what would be right. Exit code 2 means this and nothing
 * else; what is wrong inside a file, or missing from a folder, is a failure (docs/errors.md has the rule for users).
 */
export class UsageError extends Error {}

/**
 * Codes that always blame the command line: a path without data, a value that doesn't fit the data, a place that is taken, a
 * name that means no model or several.
 */
const USAGE_CODES: readonly ErrorCode[] = [
  'SGEMOE_DATA_NOT_FOUND',
  'SGEMOE_DATA_TOO_SHORT',
  'SGEMOE_RUN_FOLDER',
  'SGEMOE_HUB_NOT_FOUND',
  'SGEMOE_HUB_FILES',
];

/**
 * Runs `action` on a value of the command line. The library's TypeError or RangeError, or its error about a character of a
 * text, blames that value, so it becomes a UsageError.
 */
export function asUsage<T>(action: () => T, rename: (message: string) => string = (message) => message): T {
  try {
    return action();
  } catch (cause) {
    if (!blamesValue(cause)) throw cause;
    throw new UsageError(rename(cause.message), { cause });
  }
}

/** As `asUsage`, for an action that is under way. */
export async function usageOf<T>(action: Promise<T>, rename?: (message: string) => string): Promise<T> {
  const result = await action.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  return asUsage(() => {
    if ('error' in result) throw result.error;
    return result.value;
  }, rename);
}

function blamesValue(error: unknown): error is Error {
  if (error instanceof SgemoeError) return error.code === 'SGEMOE_UNKNOWN_CHARACTER';
  return error instanceof TypeError || error instanceof RangeError;
}

/** Reports an error on stderr, with the rank that has it, and returns the exit code. SGEMOE_DEBUG=1 adds the stack. */
export function reportError(error: unknown, { stderr, env }: CliIo, rank: number | null = null): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  const usage =
    error instanceof UsageError || (error instanceof SgemoeError && USAGE_CODES.includes(error.code));
  const message = error instanceof Error ? error.message : String(error);
  const who = rank === null ? '' : `rank ${rank}: `;
  stderr.write(`sgemoe: ${who}${message.replace(/^sgemoe: /, '')}\n`);
  if (env.SGEMOE_DEBUG === '1') stderr.write(`${stackOf(error)}\n`);
  if (error instanceof Interrupted) return EXIT.interrupted;
  return usage ? EXIT.usage : EXIT.failure;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack}${cause}`;
}
