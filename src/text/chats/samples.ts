import type { ChatMessage } from '../chatMessage';
import type { Tokenizer } from '../tokenizer';
import { commonLength, type MarkedText, markAnswers } from './answers';
import { checkMessages, checkTools, RowError } from './rowChecks';
import type { DataRow } from './rows';

/** What a sample's loss counts: what the assistant wrote (the completion of a prompt; all of a plain text), or everything. */
export type LossOn = 'assistant' | 'all';

export const LOSS_ON: readonly LossOn[] = ['assistant', 'all'];

/** A text to learn: its tokens, and which of them count as targets. */
export interface Sample {
  readonly place: string;
  readonly ids: Int32Array;
  /** 1 where the token is learnt, 0 elsewhere; the first token is never learnt, as nothing precedes it. */
  readonly counts: Uint8Array;
}

/**
 * The samples of a row: `messages` (and `tools`), rendered by the tokenizer's chat template; `prompt` and `completion`, as texts
 * or as lists of messages; or `text`.
 * @throws RowError, or SgemoeError SGEMOE_CHAT_TEMPLATE, that says what is wrong with the row.
 */
export function samplesOf(row: DataRow, tokenizer: Tokenizer, lossOn: LossOn): Sample[] {
  const { place } = row;
  const samples = sequencesOf(objectOf(row), tokenizer).map(({ ids, counts }) => {
    const all = lossOn === 'all' ? new Uint8Array(ids.length).fill(1) : counts;
    if (all.length > 0) all[0] = 0;
    return { place, ids, counts: all };
  });
  const learnt = samples.filter(({ counts }) => counts.includes(1));
  if (learnt.length > 0) return learnt;
  throw new RowError('it is empty: no token of it would be learnt');
}

/** The first `inputs` tokens of a sample with their targets; null if none of those counts. */
export function cutSample({ place, ids, counts }: Sample, inputs: number): Sample | null {
  const cut = { place, ids: ids.slice(0, inputs + 1), counts: counts.slice(0, inputs + 1) };
  return cut.counts.includes(1) ? cut : null;
}

/** The object of a row. @throws RowError for anything else. */
export function objectOf({ value }: DataRow): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new RowError(value === undefined ? 'it is no JSON' : 'it is no JSON object');
}

type Sequence = Pick<Sample, 'ids' | 'counts'>;

function sequencesOf(row: Record<string, unknown>, tokenizer: Tokenizer): Sequence[] {
  const { messages, prompt, completion, text, tools } = row;
  if (messages !== undefined) return conversation(tokenizer, checkMessages('messages', messages), tools);
  if (prompt !== undefined || completion !== undefined) {
    return answerOf(tokenizer, prompt, 'completion', completion, tools);
  }
  if (typeof text === 'string') return [completed(tokenizer, '', text)];
  if (row.chosen !== undefined) throw new RowError('it is a pair of answers among other rows');
  throw new RowError('it has neither messages, nor prompt and completion, nor text');
}

/** A prompt with an answer, both texts or both lists of messages; the answer counts. */
export function answerOf(
  tokenizer: Tokenizer,
  prompt: unknown,
  field: string,
  answer: unknown,
  tools: unknown,
): Sequence[] {
  if (typeof prompt === 'string' && typeof answer === 'string') return [completed(tokenizer, prompt, answer)];
  const before = checkMessages('prompt', prompt);
  const after = checkMessages(field, answer);
  return conversation(tokenizer, [...before, ...after], tools, before.length);
}

function conversation(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  tools: unknown,
  first = 0,
): Sequence[] {
  if (messages.length === 0) throw new RowError('it is empty: it has no messages');
  const marked = markAnswers(tokenizer, messages, { tools: checkTools(tools) }, first);
  return marked.map((each) => encodeMarked(tokenizer, each));
}

/** The tokens of a text; those count that an encoding of what precedes a span doesn't have, up to the span's end. */
function encodeMarked(tokenizer: Tokenizer, { text, spans }: MarkedText): Sequence {
  const ids = tokenizer.encode(text);
  const counts = new Uint8Array(ids.length);
  const tokensTo = (end: number) =>
    end === text.length ? ids.length : commonLength(tokenizer.encode(text.slice(0, end)), ids);
  for (const [start, end] of spans) {
    const from = tokensTo(start);
    counts.fill(1, from, withoutTail(tokenizer, ids, from, tokensTo(end)));
  }
  return { ids, counts };
}

/** The end of an answer without the white space behind its last special token, which nobody would generate. */
function withoutTail(tokenizer: Tokenizer, ids: Int32Array, from: number, to: number): number {
  let end = to;
  while (end > from && tokenizer.decode([ids[end - 1]]).trim() === '') end--;
  return end > from && end < to && isSpecial(tokenizer, ids[end - 1]) ? end : to;
}

function isSpecial(tokenizer: Tokenizer, id: number): boolean {
  return tokenizer.decode([id], { skipSpecialTokens: true }) === '';
}

/** A text in which all behind `prompt` counts, between the tokens that the tokenizer puts around texts. */
function completed(tokenizer: Tokenizer, prompt: string, completion: string): Sequence {
  if (completion === '') throw new RowError('it is empty');
  const encoded = tokenizer.encode(prompt + completion, { addSpecialTokens: true });
  const end = tokenizer.endOfText;
  const ids = end === null || encoded[encoded.length - 1] === end ? encoded : withEnd(encoded, end);
  const start = commonLength(tokenizer.encode(prompt, { addSpecialTokens: true }), ids);
  return { ids, counts: new Uint8Array(ids.length).fill(1, start) };
}

function withEnd(ids: Int32Array, end: number): Int32Array {
  const longer = new Int32Array(ids.length + 1);
  longer.set(ids);
  longer[ids.length] = end;
  return longer;
}
