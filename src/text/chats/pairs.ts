import { isDeepStrictEqual } from 'node:util';
import type { ChatMessage } from '../chatMessage';
import type { Tokenizer } from '../tokenizer';
import { inputs } from './packRows';
import { checkMessages, RowError } from './rowChecks';
import { type DataRow, readRows } from './rows';
import { answerOf, objectOf, type Sample } from './samples';

/** Two answers to one prompt. */
export interface PreferencePair {
  readonly place: string;
  /** The prompt with the better answer, whose tokens count. */
  readonly chosen: Sample;
  readonly rejected: Sample;
}

/** Tokens of a pair in a row. */
export function pairInputs({ chosen, rejected }: PreferencePair): number {
  return inputs(chosen) + inputs(rejected);
}

/** Whether the first row of a file that is JSON is a pair, complete or not. Errors are those of `readRows`. */
export async function holdsPairs(path: string): Promise<boolean> {
  for (const { value } of await readRows(path)) {
    if (typeof value !== 'object' || value === null) continue;
    const { chosen, rejected } = value as Record<string, unknown>;
    return chosen !== undefined || rejected !== undefined;
  }
  return false;
}

/**
 * The pair of a row: `prompt`, `chosen` and `rejected`, as texts or as lists of messages. Lists of messages may hold the whole
 * conversation: then what both begin with is the prompt, and a `prompt` that is a text repeats it.
 * @throws RowError, or SgemoeError SGEMOE_CHAT_TEMPLATE, that says what is wrong with the row.
 */
export function pairOf(row: DataRow, tokenizer: Tokenizer): PreferencePair {
  const { prompt, chosen, rejected, tools } = objectOf(row);
  const { place } = row;
  if (chosen === undefined || rejected === undefined) throw new RowError('it must have chosen and rejected');
  const isText = typeof chosen === 'string' && typeof rejected === 'string';
  const whole = !isText && !Array.isArray(prompt);
  const answers = whole ? splitConversation(chosen, rejected) : { prompt, chosen, rejected };
  if (isDeepStrictEqual(answers.chosen, answers.rejected))
    throw new RowError('both of its answers are the same');
  const sample = (field: 'chosen' | 'rejected') => {
    const samples = answerOf(tokenizer, answers.prompt, field, answers[field], tools);
    const [{ ids, counts }] = samples;
    if (samples.length > 1) throw new RowError(`its ${field} must be one answer, got ${samples.length}`);
    counts[0] = 0;
    if (!counts.includes(1)) throw new RowError(`its ${field} is empty`);
    return { place, ids, counts };
  };
  return { place, chosen: sample('chosen'), rejected: sample('rejected') };
}

/** Two whole conversations as what both begin with and how each goes on. */
function splitConversation(
  chosen: unknown,
  rejected: unknown,
): { prompt: ChatMessage[]; chosen: ChatMessage[]; rejected: ChatMessage[] } {
  const [a, b] = [checkMessages('chosen', chosen), checkMessages('rejected', rejected)];
  let shared = 0;
  while (shared < Math.min(a.length, b.length) && isDeepStrictEqual(a[shared], b[shared])) shared++;
  return { prompt: a.slice(0, shared), chosen: a.slice(shared), rejected: b.slice(shared) };
}
