import type { Kernels } from '../../backend/kernels';
import { SgemoeError } from '../../base/errors';
import type { ModelConfig } from '../../config/modelConfig';
import type { DecodeRow } from '../../model/decoder';
import type { Lora } from '../../model/lora';
import type { TokenVocabulary } from '../../sampling/constraints/constraint';
import { PromptLookup } from '../../sampling/promptLookup';
import type { RowDraws } from '../../sampling/rowDraws';
import { type SampledToken, Sampler } from '../../sampling/sampler';
import { TextStream } from '../../text/textStream';
import type { Tokenizer } from '../../text/tokenizer';
import { markTokens } from '../../text/toolCalls/marks';
import { addTo, type DescribedToken, HeldTokens } from './heldTokens';
import type { CompletionWork, WorkerChunk } from './messages';
import type { Sequence, StepResult } from './sequence';
import { addParsed, ToolAnswer } from './toolAnswer';
import type { FinishReason, TokenLogprob, TokenProbability, TokenRouting } from './types';

export interface CompletionSetup {
  id: number;
  client: string;
  work: CompletionWork;
  adapter: Lora | null;
  tokenizer: Tokenizer | null;
  /** The bytes of the tokens, which constraints need. */
  vocabulary: TokenVocabulary | undefined;
  /** Tokens that end the text, beside the request's own. */
  endTokens: readonly number[];
  contextLength: number;
  kernels: Kernels;
  config: ModelConfig;
  /** The most tokens that are guessed at once; 0 for none. */
  speculateTokens: number;
  /** Called after a step with guesses: the slot forgets the wrong ones. */
  onGuesses(slot: number, drafted: number, accepted: number): void;
  /** Takes a slot; `reused` is the number of prompt tokens that it already holds, none if `empty`. */
  takeSlot(ids: Int32Array, empty: boolean): { slot: number; reused: number };
}

/** A running completion: it feeds its prompt, then one token a step and those that it guesses to follow. */
export class CompletionSequence implements Sequence {
  readonly id: number;
  readonly slot: number;
  readonly client: string;
  readonly row: DecodeRow;
  readonly wantsHidden = false;
  readonly wantsRouting: boolean;
  readonly #setup: CompletionSetup;
  readonly #ids: Int32Array;
  readonly #reused: number;
  readonly #sampler: Sampler;
  readonly #text: TextStream | null;
  /** Reads calls of functions from the text; null if the request has no tools. */
  readonly #tools: ToolAnswer | null;
  /** The text of the prompt's tokens. */
  readonly #promptText: TextStream | null;
  readonly #held = new HeldTokens();
  /** Whether each token of an echoed prompt needs the results of the position before it. */
  readonly #readsPrompt: boolean;
  readonly #stopTokens: ReadonlySet<number>;
  /** The largest number of new tokens. */
  readonly #limit: number;
  readonly #lookup: PromptLookup | null;
  /** The chosen token that isn't fed yet, followed by guesses. */
  readonly #next: Int32Array;
  /** Number of guesses of this step. */
  #drafted = 0;
  /** Number of prompt tokens that the slot holds. */
  #fed: number;
  #made = 0;
  /** Number of tokens given out, prompt's and new ones. */
  #given = 0;
  /** Number of prompt tokens that were echoed. */
  #echoed = 0;
  #chunk: WorkerChunk | null = null;

  /** @throws SgemoeError SGEMOE_CONTEXT_FULL, RangeError for an empty prompt; before a slot is taken. */
  constructor(setup: CompletionSetup) {
    const { id, work, tokenizer, contextLength, kernels } = setup;
    const { vocabSize } = setup.config;
    const { prompt, sampling, skipSpecialTokens } = work;
    const onlyReads = work.echo && sampling.maxTokens === 0;
    checkLength(prompt.ids.length, onlyReads ? contextLength + 1 : contextLength);
    this.#setup = setup;
    this.id = id;
    this.client = setup.client;
    this.#ids = prompt.ids;
    const chosenFrom = Math.min(vocabSize, tokenizer?.vocabSize ?? vocabSize);
    const endTokens = sampling.ignoreEos ? [] : setup.endTokens;
    const { vocabulary } = setup;
    this.#sampler = new Sampler(sampling, { vocabSize: chosenFrom, endTokens, kernels, vocabulary });
    this.#sampler.acceptPrompt(prompt.ids);
    const { speculateTokens } = setup;
    this.#next = new Int32Array(1 + speculateTokens);
    this.#lookup = speculateTokens > 0 ? new PromptLookup(speculateTokens) : null;
    if (this.#lookup !== null) for (const token of prompt.ids) this.#lookup.add(token);
    const stop = prompt.stop === null ? sampling.stop : [...sampling.stop, prompt.stop];
    const marks = work.tools === null ? undefined : markTokens(tokenizer!);
    this.#text =
      tokenizer && new TextStream(tokenizer, { stop, marks, skipSpecialTokens, prompt: prompt.ids });
    this.#tools =
      work.tools && new ToolAnswer(work.tools, this.#sampler, vocabulary!, () => this.#text!.held);
    this.#promptText = tokenizer && new TextStream(tokenizer, { skipSpecialTokens });
    this.#stopTokens = new Set([...sampling.stopTokens, ...endTokens]);
    this.#limit = Math.min(sampling.maxTokens, contextLength - prompt.ids.length);
    this.wantsRouting = work.routing;
    this.#readsPrompt = work.echo && (work.logprobs || work.routing);
    const { slot, reused } = setup.takeSlot(prompt.ids, this.#readsPrompt);
    this.slot = slot;
    this.#reused = reused;
    this.#fed = reused;
    this.row = { slot, tokens: prompt.ids, start: 0, end: 0, logits: 'none', adapter: setup.adapter };
    if (work.echo) this.#echoStart();
  }

  /** Whether it ends before its first step, because no token was asked for or can come. */
  get endsAtOnce(): boolean {
    if (this.#readsPrompt) return false;
    // A constraint that only the empty text fulfils ends, too.
    if (this.#sampler.ended) return this.#finish('stop');
    return this.#limit > 0 ? false : this.#finish('length');
  }

  /** The prompt, and how much of it the slot holds. */
  get progress(): { prompt: Int32Array; fed: number } {
    return { prompt: this.#ids, fed: this.#fed };
  }

  get ready(): number {
    return Math.max(1, this.#ids.length - this.#fed);
  }

  draft(room: number): number {
    if (this.#lookup === null || this.#fed < this.#ids.length) return 0;
    // The last token that may be chosen needs no guess behind it.
    this.#drafted = this.#lookup.draft(Math.min(room, this.#limit - this.#made - 1));
    this.#next.set(this.#lookup.guesses.subarray(0, this.#drafted), 1);
    return this.#drafted;
  }

  feed(count: number): void {
    const { row } = this;
    const rest = this.#ids.length - this.#fed;
    if (rest === 0) {
      row.tokens = this.#next;
      row.start = 0;
    } else row.start = this.#fed;
    row.end = row.start + count;
    const scores = rest > 0 && this.#readsPrompt && this.#setup.work.logprobs;
    if (scores || this.#drafted > 0) row.logits = 'all';
    else row.logits = count >= rest ? 'last' : 'none';
    this.#fed += Math.min(count, rest);
  }

  planDraw(draws: RowDraws, logitsRow: number): void {
    if (this.#fed < this.#ids.length || this.#limit === 0 || this.#sampler.ended) return;
    const { start, end, logits } = this.row;
    // Guesses are checked by choices behind this one, which depend on it.
    const before = logits === 'all' ? end! - start! - 1 - this.#drafted : 0;
    draws.add(this.#sampler, logitsRow + before);
  }

  take(step: StepResult): boolean {
    if (this.#readsPrompt) this.#echo(step);
    if (this.#fed < this.#ids.length) return false;
    if (this.#limit === 0) return this.#finish('length');
    if (this.#sampler.ended) return this.#finish('stop');
    const drafted = this.#drafted;
    this.#drafted = 0;
    let position = step.count - 1 - drafted;
    let accepted = 0;
    let ended = this.#choose(step, position);
    while (!ended && accepted < drafted && this.#next[0] === this.#next[1 + accepted]) {
      accepted++;
      ended = this.#choose(step, ++position);
    }
    if (drafted > 0) {
      this.#lookup!.settle(drafted, accepted);
      this.#setup.onGuesses(this.slot, drafted, accepted);
    }
    return ended;
  }

  /** Chooses the token that position `i` of the sequence's part of the step predicts. Returns whether the text has ended. */
  #choose(step: StepResult, i: number): boolean {
    const row = step.logitsRow + (this.row.logits === 'all' ? i : 0);
    const at = row * this.#setup.config.vocabSize;
    const sampled = this.#setup.work.logprobs ? this.#sampler.next(step.logits, at) : null;
    const token = sampled?.token ?? this.#sampler.choose(step.logits, at);
    if (this.#stopTokens.has(token)) {
      if (sampled !== null) this.#open().endToken = this.#logprobOf(sampled, this.#text);
      return this.#finish('stop');
    }
    this.#made++;
    this.#next[0] = token;
    this.#lookup?.add(token);
    this.#append(this.#text, token, sampled, step, i);
    this.#tools?.afterToken();
    const isStopped = this.#text !== null && this.#text.stopped !== null;
    if (this.#sampler.ended || isStopped || this.#tools?.ended) return this.#finish('stop');
    return this.#made < this.#limit ? false : this.#finish('length');
  }

  /** The tokens and text since the last call; null if there are none. */
  takeChunk(): WorkerChunk | null {
    const chunk = this.#chunk;
    this.#chunk = null;
    return chunk;
  }

  /** Gives out the prompt's first token, which nothing predicts, and the others, too, if nothing about them is wanted. */
  #echoStart(): void {
    const first = { token: this.#ids[0], logprob: Number.NaN, top: NO_ALTERNATIVES };
    this.#append(this.#promptText, first.token, first, null, 0);
    this.#echoed = 1;
    if (this.#readsPrompt) return;
    for (; this.#echoed < this.#ids.length; this.#echoed++) {
      this.#append(this.#promptText, this.#ids[this.#echoed], null, null, 0);
    }
  }

  /** Gives out the prompt's tokens that this step's positions predict. */
  #echo(step: StepResult): void {
    const { vocabSize } = this.#setup.config;
    for (let i = 0; i < step.count && this.#echoed < this.#ids.length; i++, this.#echoed++) {
      const token = this.#ids[this.#echoed];
      const at = (step.logitsRow + i) * vocabSize;
      const scored = this.#setup.work.logprobs ? this.#sampler.score(step.logits, at, token) : null;
      this.#append(this.#promptText, token, scored, step, i);
    }
  }

  /** Adds a token, which position `i` of the step predicts, and gives out the text that has become certain. */
  #append(
    text: TextStream | null,
    token: number,
    sampled: SampledToken | null,
    step: StepResult | null,
    i: number,
  ): void {
    const { logprobs, routing, sampling } = this.#setup.work;
    // Alternatives are texts in the token's place, so they come before the token is taken.
    const logprob = logprobs && sampled !== null ? this.#logprobOf(sampled, text) : null;
    const certain = text?.push(token, this.#made >= sampling.minTokens) ?? '';
    const described = {
      token,
      text: text?.added ?? '',
      logprob,
      routing: routing ? this.#routingOf(step, i) : null,
    };
    const given = text === null ? [described] : this.#held.push(described, certain.length);
    this.#give(certain, given);
  }

  #give(text: string, tokens: readonly DescribedToken[]): void {
    if (text === '' && tokens.length === 0) return;
    this.#given += tokens.length;
    const chunk = this.#open();
    if (this.#tools === null) chunk.text += text;
    else addParsed(chunk, this.#tools.push(text));
    for (const each of tokens) addTo(chunk, each);
  }

  #finish(reason: FinishReason): true {
    const rest = this.#text?.flush() ?? '';
    this.#give(rest, this.#held.flush(rest));
    const chunk = this.#open();
    if (this.#tools !== null) addParsed(chunk, this.#tools.flush());
    chunk.finishReason = reason === 'stop' && this.#tools?.called ? 'tool_calls' : reason;
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
      toolCalls: [],
      endToken: null,
      finishReason: null,
      usage: { promptTokens: this.#ids.length, reusedTokens: this.#reused, completionTokens: 0 },
    };
    const echoed = this.#setup.work.echo ? this.#ids.length : 0;
    this.#chunk.usage.completionTokens = Math.max(0, this.#given - echoed);
    return this.#chunk;
  }

  #logprobOf({ token, logprob, top }: SampledToken, text: TextStream | null): TokenLogprob {
    return {
      token,
      ...textOf(token, text),
      logprob,
      top: Array.from(top.tokens, (id, i) => {
        const added = textOf(id, text);
        return { token: id, ...(added.text === '' ? this.#nameOf(id) : added), logprob: top.logprobs[i] };
      }),
    };
  }

  /** The name of a token that adds nothing by itself. */
  #nameOf(id: number): Pick<TokenProbability, 'text' | 'bytes'> {
    const { tokenizer } = this.#setup;
    return { text: tokenizer?.decode([id]) ?? '', bytes: tokenizer && [...tokenizer.decodeBytes([id])] };
  }

  /** The routing of position `i` of the sequence's part of the step, whose logits predict the next token. */
  #routingOf(step: StepResult | null, i: number): TokenRouting {
    const { config } = this.#setup;
    const { nLayers, topKExperts: K } = config;
    const rowsOf = (values: Int32Array | Float32Array | undefined) =>
      Array.from({ length: nLayers }, (_, layer) => {
        if (step === null || values === undefined || config.isDense(layer)) return [];
        const start = (layer * step.tokens + step.at + i) * K;
        return Array.from(values.subarray(start, start + K));
      });
    return { experts: rowsOf(step?.experts), weights: rowsOf(step?.gateWeights) };
  }
}

const NO_ALTERNATIVES = { tokens: new Int32Array(0), logprobs: new Float32Array(0) };

/** The text that a token would add to a stream, and its bytes. */
function textOf(id: number, stream: TextStream | null): Pick<TokenProbability, 'text' | 'bytes'> {
  if (stream === null) return { text: '', bytes: null };
  const { text, bytes } = stream.peek(id);
  return { text, bytes: [...bytes] };
}

function checkLength(tokens: number, contextLength: number): void {
  if (tokens === 0) throw new RangeError('prompt must have at least one token, got none');
  if (tokens < contextLength) return;
  throw new SgemoeError(
    'SGEMOE_CONTEXT_FULL',
    `The prompt has ${tokens} tokens; the context has room for ${contextLength}, with one at least for the answer.`,
  );
}
