import type { Normalize } from './normalizers';
import { escapeRegExp } from './patterns';
import { invalid, type Settings } from './settings';

/** A token that is found as a whole, before the text is cut into words. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether decoding without special tokens leaves it out. */
  readonly special: boolean;
  /** Whether a letter, digit or underscore beside it prevents a match. */
  readonly singleWord: boolean;
  /** Whether it takes the white space before it (`lstrip`) or after it (`rstrip`). */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Whether it is normalized and looked for in the normalized text. */
  readonly normalized: boolean;
}

/** A part of a text: either text between added tokens, or the id of one; `at` is where it begins. */
export type Part = { text: string; id: null; at: number } | { text: null; id: number };

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const ENDS_WITH_WORD = new RegExp(`${WORD}$`, 'u');
const STARTS_WITH_WORD = new RegExp(`^${WORD}`, 'u');
const SPACE = /^\p{White_Space}$/u;
const LEADING_SPACE = /^\p{White_Space}*/u;

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an invalid added token. */
export function readAddedToken(settings: Settings, mostTokens: number): AddedToken {
  const content = settings.string('content');
  if (content === '') settings.refuse('content', 'a text that is not empty');
  const special = settings.boolean('special', false);
  return {
    id: settings.integer('id', 0, mostTokens - 1),
    content,
    special,
    singleWord: settings.boolean('single_word', false),
    lstrip: settings.boolean('lstrip', false),
    rstrip: settings.boolean('rstrip', false),
    normalized: settings.boolean('normalized', !special),
  };
}

/** An added token that matches exactly its text. */
export function plainToken(id: number, content: string): AddedToken {
  return { id, content, special: true, singleWord: false, lstrip: false, rstrip: false, normalized: false };
}

/**
 * Checks the ids of added tokens. `tokenizers` ignores the file's ids: it takes the model's id if the model knows the text,
 * otherwise the next free one. @throws SgemoeError SGEMOE_TOKENIZER_INVALID if the file has another id.
 */
export function checkAddedIds(tokens: readonly AddedToken[], modelIds: ReadonlyMap<string, number>): void {
  const ids = new Map<string, number>();
  let highest = -1;
  for (const { content, id } of tokens) {
    const known = ids.get(content) ?? modelIds.get(content);
    const next = highest >= modelIds.size ? highest + 1 : modelIds.size;
    const expected = known ?? next;
    if (id !== expected) {
      throw invalid(
        `the added token ${JSON.stringify(content)} has id ${id}, where Hugging Face's tokenizers gives it ${expected}`,
      );
    }
    ids.set(content, id);
    highest = Math.max(highest, id);
  }
}

/** Finds added tokens in a text, from the left; of several that begin at one place it takes the longest. */
export class TokenFinder {
  readonly #byContent = new Map<string, AddedToken>();
  readonly #pattern: RegExp | null;

  /** @param normalize the normalization of the text, which is applied to the tokens too. */
  constructor(tokens: readonly AddedToken[], normalize: Normalize = (text) => text) {
    for (const token of tokens) {
      const content = normalize(token.content);
      if (content !== '') this.#byContent.set(content, token);
    }
    const longestFirst = [...this.#byContent.keys()].sort((a, b) => b.length - a.length);
    this.#pattern =
      longestFirst.length === 0 ? null : new RegExp(longestFirst.map(escapeRegExp).join('|'), 'gu');
  }

  *split(text: string): Generator<Part, void> {
    let at = 0;
    for (const { 0: content, index } of this.#pattern === null ? [] : text.matchAll(this.#pattern)) {
      const token = this.#byContent.get(content)!;
      let end = index + content.length;
      if (token.singleWord && !standsAlone(text, index, end)) continue;
      const start = token.lstrip ? Math.max(at, spacesBefore(text, index)) : index;
      if (token.rstrip) end += LEADING_SPACE.exec(text.slice(end))![0].length;
      if (start > at) yield { text: text.slice(at, start), id: null, at };
      yield { text: null, id: token.id };
      at = end;
    }
    if (at < text.length) yield { text: text.slice(at), id: null, at };
  }
}

function standsAlone(text: string, start: number, end: number): boolean {
  // A character has at most two UTF-16 units.
  const before = text.slice(Math.max(0, start - 2), start);
  return !ENDS_WITH_WORD.test(before) && !STARTS_WITH_WORD.test(text.slice(end, end + 2));
}

/** The start of the white space that ends at `end`. */
function spacesBefore(text: string, end: number): number {
  let start = end;
  while (start > 0 && SPACE.test(text[start - 1])) start--;
  return start;
}
