/**
 * Which part of a rendered conversation the assistant wrote. A template with `{% generation %}` blocks says so itself;
 * otherwise the conversation is rendered up to each answer, with and without it.
 */
import type { ChatMessage } from '../chatMessage';
import type { ChatOptions } from '../chatTemplate';
import type { Tokenizer } from '../tokenizer';
import { RowError } from './rowChecks';

/** A text and the parts of it that are learnt: [start, end) in UTF-16 units, in order. */
export interface MarkedText {
  readonly text: string;
  readonly spans: readonly (readonly [number, number])[];
}

type Template = Pick<Tokenizer, 'applyChatTemplate'>;
type RowOptions = Pick<ChatOptions, 'tools'>;

/** Private characters, which no text has by chance. */
const BEGIN = '\uE5E2\uF5E2\uE5E2';
const END = '\uE5E3\uF5E3\uE5E3';

/**
 * The texts of a conversation with the assistant's turns marked: one text, or, where the template writes earlier answers
 * otherwise than the last (leaves their thoughts out, say), a text for each answer with the conversation before it.
 * @param first the first message whose answers count. Default 0: all.
 * @throws SgemoeError SGEMOE_CHAT_TEMPLATE; RowError for a template whose answers can't be told apart.
 */
export function markAnswers(
  template: Template,
  messages: readonly ChatMessage[],
  options: RowOptions,
  first = 0,
): MarkedText[] {
  const text = template.applyChatTemplate(messages, options);
  const byBlocks = first > 0 ? null : answersByBlocks(template, messages, options, text);
  if (byBlocks !== null) return [byBlocks];
  const turns = messages.flatMap(({ role }, i) => (role === 'assistant' && i >= first ? [i] : []));
  const upTo = turns.map((turn) => answerAt(template, messages, options, turn));
  if (upTo.every(({ text: part }) => text.startsWith(part))) {
    return [{ text, spans: upTo.flatMap(({ spans }) => spans) }];
  }
  return upTo;
}

/** What the template's own blocks mark; null where it has none, or where marks change its text. */
function answersByBlocks(
  template: Template,
  messages: readonly ChatMessage[],
  options: RowOptions,
  text: string,
): MarkedText | null {
  const marked = template.applyChatTemplate(messages, { ...options, generationMarks: [BEGIN, END] });
  const [head, ...parts] = marked.split(BEGIN);
  const spans: [number, number][] = [];
  let plain = head;
  for (const part of parts) {
    const [answer, ...rest] = part.split(END);
    spans.push([plain.length, plain.length + answer.length]);
    plain += answer + rest.join('');
  }
  return spans.length > 0 && plain === text ? { text, spans } : null;
}

/** The conversation up to an answer, which is marked. It begins where a generation would. */
function answerAt(
  template: Template,
  messages: readonly ChatMessage[],
  options: RowOptions,
  turn: number,
): MarkedText {
  const before = messages.slice(0, turn);
  const prompt = template.applyChatTemplate(before, { ...options, addGenerationPrompt: true });
  const text = template.applyChatTemplate(messages.slice(0, turn + 1), options);
  const start = commonLength(prompt, text);
  // A generation prompt may hold more than the turn repeats (an opened block of thoughts), but not less than the conversation.
  if (start < prompt.length && start < template.applyChatTemplate(before, options).length) {
    throw new RowError(`the template writes what precedes message ${turn + 1} otherwise without it`);
  }
  return { text, spans: [[start, text.length]] };
}

/** The number of leading elements that two texts or lists share. */
export function commonLength(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
