import type { WorkerChunk } from './messages';
import type { TokenLogprob, TokenRouting } from './types';

/** A token with what a chunk tells of it. */
export interface DescribedToken {
  token: number;
  /** The text that it adds. */
  text: string;
  logprob: TokenLogprob | null;
  routing: TokenRouting | null;
}

/**
 * Holds tokens back until their text is given out, so that the joined texts of a completion's tokens are its text, whatever
 * a stop text cuts off and however a stream is cut. A token that adds nothing waits for the next one that does, since the
 * rest of an incomplete character at the end is added to it.
 */
export class HeldTokens {
  readonly #held: DescribedToken[] = [];
  /** Characters that were given out, without those of the tokens that were. */
  #ahead = 0;

  /** Takes a token, and `length` new characters that are given out; returns the tokens that may be, too. */
  push(token: DescribedToken, length: number): DescribedToken[] {
    this.#held.push(token);
    this.#ahead += length;
    let count = 0;
    let end = 0;
    for (const [i, { text }] of this.#held.entries()) {
      end += text.length;
      if (end > this.#ahead) break;
      if (text === '') continue;
      count = i + 1;
    }
    const given = this.#held.splice(0, count);
    for (const { text } of given) this.#ahead -= text.length;
    return given;
  }

  /** All tokens, their texts cut to the characters that were given out, of which `rest` are the last. */
  flush(rest: string): DescribedToken[] {
    const given = this.#held.splice(0);
    this.#ahead += rest.length;
    for (const each of given) {
      setText(each, each.text.slice(0, this.#ahead));
      this.#ahead -= each.text.length;
    }
    const last = given.at(-1);
    if (last !== undefined && this.#ahead > 0) setText(last, last.text + rest.slice(-this.#ahead));
    return given;
  }
}

/** Adds a token to a chunk. */
export function addTo(chunk: WorkerChunk, { token, text, logprob, routing }: DescribedToken): void {
  chunk.tokens.push(token);
  chunk.texts.push(text);
  if (logprob !== null) chunk.logprobs?.push(logprob);
  if (routing !== null) chunk.routing?.push(routing);
}

function setText(described: DescribedToken, text: string): void {
  described.text = text;
  if (described.logprob !== null) described.logprob.text = text;
}
