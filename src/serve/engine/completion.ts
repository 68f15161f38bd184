import type { Kernels } from '../../backend/kernels';
import { SgemoeError } from '../../base/errors';
import type { ModelConfig } from '../../config/modelConfig';
import type { DecodeRow } from '../../model/decoder';
import { type SampledToken, Sampler } from '../../sampling/sampler';
import { TextStream } from '../../text/textStream';
import type { Tokenizer } from '../../text/tokenizer';
import type { GenerateWork, WorkerChunk } from './messages';
import type { Prompt } from './promptSource';
import type { Sequence, StepResult } from './sequence';
import type { FinishReason, TokenLogprob, TokenProbability, TokenRouting } from './types';

export interface CompletionSetup {
  id: number;
  work: GenerateWork;
  prompt: Prompt;
  tokenizer: Tokenizer | null;
  /** Tokens that end the text, beside the request's own. */
  endTokens: readonly number[];
  contextLength: number;
  kernels: Kernels;
  config: ModelConfig;
  /** Takes a slot; `reused` is the number of prompt tokens that it already holds. */
  takeSlot(ids: Int32Array): { slot: number; reused: number };
}

/** A running completion: it feeds its prompt, then one token a step. */
export class CompletionSequence implements Sequence {
  readonly id: number;
  readonly slot: number;
  readonly row: DecodeRow;
  readonly wantsHidden = false;
  readonly wantsRouting: boolean;
  readonly #setup: CompletionSetup;
  readonly #ids: Int32Array;
  readonly #reused: number;
  readonly #sampler: Sampler;
  readonly #text: TextStream | null;
  readonly #stopTokens: ReadonlySet<number>;
  /** The largest number of new tokens. */
  readonly #limit: number;
  readonly #next = new Int32Array(1);
  /** Number of prompt tokens that the slot holds. */
  #fed: number;
  #made = 0;
  #chunk: WorkerChunk | null = null;

  /** @throws SgemoeError SGEMOE_CONTEXT_FULL, RangeError for an empty prompt; before a slot is taken. */
  constructor(setup: CompletionSetup) {
    const { id, work, prompt, tokenizer, contextLength, kernels } = setup;
    const { vocabSize } = setup.config;
    checkLength(prompt.ids.length, contextLength);
    this.#setup = setup;
    this.id = id;
    this.#ids = prompt.ids;
    const { sampling, skipSpecialTokens } = work;
    const chosenFrom = Math.min(vocabSize, tokenizer?.vocabSize ?? vocabSize);
    this.#sampler = new Sampler(sampling, { vocabSize: chosenFrom, kernels });
    this.#sampler.acceptPrompt(prompt.ids);
    const stop = prompt.stop === null ? sampling.stop : [...sampling.stop, prompt.stop];
    this.#text = tokenizer && new TextStream(tokenizer, { stop, skipSpecialTokens, prompt: prompt.ids });
    this.#stopTokens = new Set([...sampling.stopTokens, ...setup.endTokens]);
    this.#limit = Math.min(sampling.maxTokens, contextLength - prompt.ids.length);
    this.wantsRouting = work.routing;
    const { slot, reused } = setup.takeSlot(prompt.ids);
    this.slot = slot;
    this.#reused = reused;
    this.#fed = reused;
    this.row = { slot, tokens: prompt.ids, start: 0, end: 0, logits: 'none' };
  }

  /** Whether it ends before its first step, because no token was asked for. */
  get endsAtOnce(): boolean {
    if (this.#limit > 0) return false;
    this.#finish('length');
    return true;
  }

  get ready(): number {
    return Math.max(1, this.#ids.length - this.#fed);
  }

  feed(count: number): void {
    const { row } = this;
    const rest = this.#ids.length - this.#fed;
    if (rest === 0) {
      row.tokens = this.#next;
      row.start = 0;
    } else row.start = this.#fed;
    row.end = row.start + count;
    row.logits = count >= rest ? 'last' : 'none';
    this.#fed += Math.min(count, rest);
  }

  take(step: StepResult): boolean {
    if (this.row.logits === 'none') return false;
    const { vocabSize } = this.#setup.config;
    const sampled = this.#sampler.next(step.logits, step.logitsRow * vocabSize);
    if (this.#stopTokens.has(sampled.token)) return this.#finish('stop');
    this.#add(sampled, step);
    if (this.#text !== null && this.#text.stopped !== null) return this.#finish('stop');
    return this.#made < this.#limit ? false : this.#finish('length');
  }

  /** The tokens and text since the last call; null if there are none. */
  takeChunk(): WorkerChunk | null {
    const chunk = this.#chunk;
    this.#chunk = null;
    return chunk;
  }

  #add(sampled: SampledToken, step: StepResult): void {
    const { token } = sampled;
    this.#made++;
    this.#next[0] = token;
    const chunk = this.#open();
    chunk.tokens.push(token);
    chunk.logprobs?.push(this.#logprobOf(sampled));
    chunk.text += this.#text?.push(token) ?? '';
    chunk.texts.push(this.#text?.added ?? '');
    chunk.routing?.push(this.#routingOf(step));
  }

  #finish(reason: FinishReason): true {
    const chunk = this.#open();
    chunk.text += this.#text?.flush() ?? '';
    chunk.finishReason = reason;
    return true;
  }

  /** The chunk that new tokens are added to; it is made when there is none. */
  #open(): WorkerChunk {
    const { logprobs, routing } = this.#setup.work;
    this.#chunk ??= {
      text: '',
      tokens: [],
      texts: [],
      logprobs: logprobs ? [] : null,
      routing: routing ? [] : null,
      finishReason: null,
      usage: { promptTokens: this.#ids.length, reusedTokens: this.#reused, completionTokens: 0 },
    };
    this.#chunk.usage.completionTokens = this.#made;
    return this.#chunk;
  }

  /** Call it before the token is taken, since alternatives are texts in the token's place. */
  #logprobOf({ token, logprob, top }: SampledToken): TokenLogprob {
    return {
      token,
      ...this.#textOf(token),
      logprob,
      top: Array.from(top.tokens, (id, i) => {
        const text = this.#textOf(id);
        return { token: id, ...(text.text === '' ? this.#nameOf(id) : text), logprob: top.logprobs[i] };
      }),
    };
  }

  /** The text that a token would add here. */
  #textOf(id: number): Pick<TokenProbability, 'text' | 'bytes'> {
    if (this.#text === null) return { text: '', bytes: null };
    const { text, bytes } = this.#text.peek(id);
    return { text, bytes: [...bytes] };
  }

  /** The name of a token that adds nothing by itself. */
  #nameOf(id: number): Pick<TokenProbability, 'text' | 'bytes'> {
    const { tokenizer } = this.#setup;
    return { text: tokenizer?.decode([id]) ?? '', bytes: tokenizer && [...tokenizer.decodeBytes([id])] };
  }

  /** The routing of the sequence's last new token, whose logits predicted the next one. */
  #routingOf({ experts, gateWeights, tokens, at, count }: StepResult): TokenRouting {
    const { config } = this.#setup;
    const { nLayers, topKExperts: K } = config;
    const rowsOf = (values: Int32Array | Float32Array) =>
      Array.from({ length: nLayers }, (_, layer) => {
        if (config.isDense(layer)) return [];
        const start = (layer * tokens + at + count - 1) * K;
        return Array.from(values.subarray(start, start + K));
      });
    return { experts: rowsOf(experts), weights: rowsOf(gateWeights) };
  }
}

function checkLength(tokens: number, contextLength: number): void {
  if (tokens === 0) throw new RangeError('prompt must have at least one token, got none');
  if (tokens < contextLength) return;
  throw new SgemoeError(
    'SGEMOE_CONTEXT_FULL',
    `The prompt has ${tokens} tokens; the context has room for ${contextLength}, with one at least for the answer.`,
  );
}
