/** The most tokens that are drafted at once. */
export const MOST_DRAFTED = 128;

/** Earlier places of a pair that are compared, the latest first. */
const MOST_TRIED = 16;
/** Tokens beyond which a longer match counts no more. */
const LONGEST_MATCH = 16;
/** The most tokens for which drafting rests after drafts that were wrong from their first token on. */
const MOST_REST = 31;
const NONE = -1;
/** Times a token's id plus another id is one number for two tokens, exactly for ids below 2^26. */
const PAIR = 2 ** 26;

/**
 * Guesses how a text goes on: by what followed the longest match of its last tokens, two at least, earlier in it (prompt lookup
 * decoding, Saxena 2023). A decoder computes all guessed tokens in one step; those that the sampler then chooses, too, are
 * right, so that the text is the same with and without guesses. Where they fail, fewer follow.
 */
export class PromptLookup {
  /** The guessed tokens; the first that `draft` returned are valid. */
  readonly guesses: Int32Array;
  readonly #tokens: number[] = [];
  /** For a pair of tokens, the place behind its last occurrence. */
  readonly #behind = new Map<number, number>();
  /** For a place, the place behind the occurrence before of the pair in front of it. */
  readonly #before: number[] = [];
  /** The number of tokens that the next draft may have. */
  #length: number;
  /** The number of tokens for which drafting rests, and that after the next failure is this one, doubled. */
  #rest = 0;
  #lastRest = 0;

  /** @param most the largest number of tokens of a draft, an integer in [1, MOST_DRAFTED]. */
  constructor(private readonly most: number) {
    this.guesses = new Int32Array(most);
    this.#length = most;
  }

  /** Appends a token of the prompt or the answer. */
  add(token: number): void {
    const at = this.#tokens.length;
    if (at >= 2) {
      const pair = this.#lastPair();
      this.#before[at] = this.#behind.get(pair) ?? NONE;
      this.#behind.set(pair, at);
    }
    this.#tokens.push(token);
  }

  /** Guesses at most `room` tokens; returns how many. */
  draft(room: number): number {
    if (this.#rest > 0) {
      this.#rest--;
      return 0;
    }
    const from = this.#findMatch();
    if (from === NONE) return 0;
    const count = Math.max(0, Math.min(room, this.#length));
    const { length } = this.#tokens;
    for (let i = 0; i < count; i++) {
      // A text that repeats itself goes on with what was just guessed.
      this.guesses[i] = from + i < length ? this.#tokens[from + i] : this.guesses[from + i - length];
    }
    return count;
  }

  /** Says how many of the guessed tokens were right, from the first on. */
  settle(drafted: number, accepted: number): void {
    if (drafted === 0) return;
    if (accepted === drafted) this.#length = Math.min(this.most, 2 * this.#length);
    else this.#length = Math.max(1, accepted);
    this.#lastRest = accepted > 0 ? 0 : Math.min(MOST_REST, 2 * this.#lastRest + 1);
    this.#rest = this.#lastRest;
  }

  /** The place behind the longest match, of equally long ones the latest; NONE without a match. */
  #findMatch(): number {
    const tokens = this.#tokens;
    const end = tokens.length - 1;
    if (end < 1) return NONE;
    let found = NONE;
    let longest = 1;
    let at = this.#behind.get(this.#lastPair()) ?? NONE;
    for (let tries = 0; at !== NONE && tries < MOST_TRIED; tries++, at = this.#before[at]) {
      let length = 2;
      while (length < LONGEST_MATCH && length < at && tokens[at - 1 - length] === tokens[end - length])
        length++;
      if (length <= longest) continue;
      found = at;
      longest = length;
    }
    return found;
  }

  #lastPair(): number {
    const tokens = this.#tokens;
    return tokens[tokens.length - 2] * PAIR + tokens[tokens.length - 1];
  }
}
