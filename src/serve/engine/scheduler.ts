import type { Precision } from '../../base/precision';
import type { KvCacheDtype } from '../../base/storageTypes';
import type { DecodeRow, StepOutputs } from '../../model/decoder';
import { Decoder } from '../../model/decoder';
import { Lora } from '../../model/lora';
import type { MoETransformer } from '../../model/model';
import { TokenVocabulary } from '../../sampling/constraints/constraint';
import { RowDraws } from '../../sampling/rowDraws';
import { allEndTokens } from '../../text/endTokens';
import type { Tokenizer } from '../../text/tokenizer';
import { CompletionSequence, type CompletionSetup } from './completion';
import type { WorkerCounters } from './counters';
import { EmbeddingSequence } from './embedding';
import type { AdapterMessage, CompletionWork, EmbeddingWork, ToWorker, WorkerEvent } from './messages';
import { toWire } from './messages';
import { commonLength } from './prefixes';
import type { Sequence, StepResult } from './sequence';
import { shareOut } from './shares';
import { Slots } from './slots';

export interface SchedulerOptions {
  slots: number;
  contextLength: number;
  maxStepTokens: number;
  kvCacheDtype: KvCacheDtype;
  precision: Precision;
  speculateTokens: number;
}

/** Tokens of a beginning that are worth waiting for until another completion has computed them. */
const WORTH_TOKENS = 16;

/** A completion that hasn't begun. */
interface Follower {
  id: number;
  client: string;
  work: CompletionWork;
}

/** One that waits until the leader's slot holds the first `shared` tokens of its prompt. */
interface WaitingFollower extends Follower {
  leader: CompletionSequence;
  shared: number;
}

/**
 * Decodes sequences together: each step takes one token of each running sequence and fills the rest with prompt tokens. Work
 * joins and leaves between steps; a completion whose prompt begins like that of a running one waits until that has computed
 * the beginning. Every piece of work ends with exactly one event, also when it fails.
 */
export class Scheduler {
  readonly #decoder: Decoder;
  readonly #slots: Slots;
  /** By number. */
  readonly #adapters = new Map<number, Lora>();
  /** The sequences by adapter, so that each has its rows together, then by slot, which needs the fewest calls of the attention kernel. */
  readonly #sequences: Sequence[] = [];
  readonly #followers: WaitingFollower[] = [];
  #events: WorkerEvent[] = [];
  /** Whether work has ended, so that a reader waits and a place is free. */
  #urgent = false;
  readonly #rows: DecodeRow[] = [];
  readonly #shares: Int32Array;
  readonly #draws: RowDraws;
  readonly #endTokens: readonly number[];
  readonly #result: StepResult;
  readonly #speculateTokens: number;
  /** The same for all work that has one, with the masks of the last constraints. */
  #vocabulary: TokenVocabulary | undefined;

  constructor(
    private readonly model: MoETransformer,
    private readonly tokenizer: Tokenizer | null,
    options: SchedulerOptions,
    private readonly counters: WorkerCounters,
  ) {
    const { slots, contextLength, maxStepTokens, kvCacheDtype, precision, speculateTokens } = options;
    this.#decoder = new Decoder(model, { slots, contextLength, maxStepTokens, kvCacheDtype, precision });
    this.#slots = new Slots(this.#decoder);
    this.#speculateTokens = speculateTokens;
    this.#shares = new Int32Array(slots);
    this.#draws = new RowDraws(model.kernels, slots);
    this.#endTokens = allEndTokens(model, tokenizer);
    const { vocabSize, hiddenDim, nLayers, topKExperts } = model.config;
    const tokens = maxStepTokens;
    this.#result = {
      logits: new Float32Array(slots * vocabSize),
      hidden: new Float32Array(tokens * hiddenDim),
      experts: new Int32Array(nLayers * tokens * topKExperts),
      gateWeights: new Float32Array(nLayers * tokens * topKExperts),
      tokens: 0,
      at: 0,
      count: 0,
      logitsRow: 0,
    };
  }

  /** Whether there is something to compute. */
  get active(): boolean {
    return this.#sequences.length > 0;
  }

  /** Takes or drops an adapter, which no work uses any more. */
  changeAdapters(message: AdapterMessage): void {
    if ('addAdapter' in message) {
      const { id, shared } = message.addAdapter;
      this.#adapters.set(id, Lora.fromShared(this.model, shared));
      return;
    }
    const adapter = this.#adapters.get(message.dropAdapter);
    if (adapter !== undefined) this.#slots.forget(adapter);
    this.#adapters.delete(message.dropAdapter);
    this.counters.cachedTokens = this.#slots.tokens;
  }

  #adapterOf({ adapter }: CompletionWork | EmbeddingWork): Lora | null {
    return adapter === null ? null : this.#adapters.get(adapter)!;
  }

  /** Starts or cancels work. It never throws: an error of the work becomes its event. */
  receive(message: ToWorker): void {
    const { id, work } = message;
    try {
      if (work === null) this.#cancel(id);
      else if (work.kind === 'embed') this.#beginEmbedding(id, message.client, work);
      else {
        const { client } = message;
        if (!this.#waitForLeader({ id, client, work })) this.#beginCompletion(id, client, work);
      }
    } catch (error) {
      this.#end({ id, end: true, error: toWire(error) });
    }
  }

  /** Computes a step of all sequences. */
  step(): void {
    const sequences = this.#sequences;
    if (sequences.length === 0) return;
    const result = this.#result;
    result.tokens = this.#layOut();
    this.#makeRoom();
    this.#decoder.step(this.#rows, this.#outputs());
    this.counters.countExperts(result.experts, result.tokens * this.model.config.topKExperts);
    this.#drawTogether();
    result.at = 0;
    result.logitsRow = 0;
    let kept = 0;
    for (const sequence of sequences) {
      result.count = sequence.row.end! - sequence.row.start!;
      const rows = logitsRows(sequence.row, result.count);
      if (!this.#take(sequence)) sequences[kept++] = sequence;
      result.at += result.count;
      result.logitsRow += rows;
    }
    sequences.length = kept;
    this.#beginFollowers();
    this.counters.cachedTokens = this.#slots.tokens;
  }

  /** Draws the tokens of the sequences that choose one now. */
  #drawTogether(): void {
    let logitsRow = 0;
    for (const sequence of this.#sequences) {
      sequence.planDraw(this.#draws, logitsRow);
      logitsRow += logitsRows(sequence.row, sequence.row.end! - sequence.row.start!);
    }
    this.#draws.draw(this.#result.logits, this.model.config.vocabSize);
  }

  /** Whether the events should be sent now instead of waiting for more. */
  get urgent(): boolean {
    return this.#urgent;
  }

  /** The events since the last call. */
  takeEvents(): WorkerEvent[] {
    for (const sequence of this.#sequences) {
      if (!(sequence instanceof CompletionSequence)) continue;
      const chunk = sequence.takeChunk();
      if (chunk !== null) this.#events.push({ id: sequence.id, end: false, chunk });
    }
    const events = this.#events;
    this.#events = [];
    this.#urgent = false;
    return events;
  }

  #beginCompletion(id: number, client: string, work: CompletionWork): void {
    const { config } = this.model;
    if (work.vocabulary !== null) this.#vocabulary ??= TokenVocabulary.packed(work.vocabulary);
    for (const each of work.compiled) this.#vocabulary!.take(each);
    let taken: number | null = null;
    const adapter = this.#adapterOf(work);
    const setup: CompletionSetup = {
      id,
      client,
      work,
      adapter,
      tokenizer: this.tokenizer,
      vocabulary: work.vocabulary === null ? undefined : this.#vocabulary,
      endTokens: this.#endTokens,
      contextLength: this.#decoder.contextLength,
      kernels: this.model.kernels,
      config,
      speculateTokens: this.#speculateTokens,
      onGuesses: (slot, drafted, accepted) => {
        this.#decoder.truncate(slot, this.#decoder.length(slot) - (drafted - accepted));
        this.counters.countGuesses(drafted, accepted);
      },
      takeSlot: (ids, empty) => {
        const slot = empty ? this.#slots.takeEmpty() : this.#slots.take(ids, adapter);
        taken = slot;
        return { slot, reused: this.#decoder.length(slot) };
      },
    };
    try {
      const sequence = new CompletionSequence(setup);
      if (sequence.endsAtOnce) this.#leave(sequence);
      else this.#join(sequence);
    } catch (error) {
      if (taken !== null) this.#slots.give(taken);
      throw error;
    }
  }

  #beginEmbedding(id: number, client: string, work: EmbeddingWork): void {
    const { texts, form } = work;
    const { contextLength } = this.#decoder;
    const sequence = new EmbeddingSequence(
      { id, client, adapter: this.#adapterOf(work) },
      texts,
      form,
      this.model.config.hiddenDim,
      contextLength,
      () => this.#slots.takeEmpty(),
      (slot) => this.#decoder.truncate(slot, 0),
    );
    this.#join(sequence);
  }

  /** Those of an adapter stand together, in the order of their slots. */
  #join(sequence: Sequence): void {
    const adapters = [null, ...this.#adapters.values()];
    const placeOf = ({ row, slot }: Sequence) => adapters.indexOf(row.adapter!) * this.#decoder.slots + slot;
    const place = placeOf(sequence);
    const after = this.#sequences.findIndex((other) => placeOf(other) > place);
    this.#sequences.splice(after < 0 ? this.#sequences.length : after, 0, sequence);
  }

  /** Lets a completion wait while a running one computes a beginning of its prompt; returns whether it waits. */
  #waitForLeader(follower: Follower): boolean {
    const { work } = follower;
    if (work.echo && (work.logprobs || work.routing)) return false;
    const { ids } = work.prompt;
    const adapter = this.#adapterOf(work);
    const held = this.#slots.heldPrefix(ids, adapter);
    for (const leader of this.#sequences) {
      if (!(leader instanceof CompletionSequence) || leader.row.adapter !== adapter) continue;
      const { prompt, fed } = leader.progress;
      const shared = Math.min(commonLength(prompt, ids), ids.length - 1);
      if (shared <= fed || shared - held < WORTH_TOKENS) continue;
      this.#followers.push({ ...follower, leader, shared });
      return true;
    }
    return false;
  }

  /** Begins the completions whose beginning is computed now, or whose leader has gone. */
  #beginFollowers(): void {
    for (const waiting of this.#followers.splice(0)) {
      const { id, client, work, leader, shared } = waiting;
      if (this.#sequences.includes(leader) && leader.progress.fed < shared) this.#followers.push(waiting);
      else this.receive({ id, client, work });
    }
  }

  #cancel(id: number): void {
    const follower = this.#followers.findIndex((each) => each.id === id);
    if (follower >= 0) {
      this.#followers.splice(follower, 1);
      this.#end({ id, end: true });
      return;
    }
    const at = this.#sequences.findIndex((sequence) => sequence.id === id);
    // The work may have ended while the message was under way.
    if (at < 0) return;
    this.#slots.give(this.#sequences[at].slot);
    this.#sequences.splice(at, 1);
    this.#end({ id, end: true });
    this.#beginFollowers();
  }

  /** Decides how many tokens each sequence feeds; returns their sum. */
  #layOut(): number {
    const sequences = this.#sequences;
    shareOut(sequences, this.#decoder.maxStepTokens, this.#shares);
    this.#draft();
    let tokens = 0;
    this.#rows.length = 0;
    for (const [i, sequence] of sequences.entries()) {
      sequence.feed(this.#shares[i]);
      this.#rows.push(sequence.row);
      tokens += this.#shares[i];
    }
    return tokens;
  }

  /** Fills what is left of the step with guessed tokens, in equal parts. */
  #draft(): void {
    if (this.#speculateTokens === 0) return;
    const sequences = this.#sequences;
    let left = this.#decoder.maxStepTokens;
    for (let i = 0; i < sequences.length; i++) left -= this.#shares[i];
    const room = Math.floor(left / sequences.length);
    for (const [i, sequence] of sequences.entries()) this.#shares[i] += sequence.draft(room);
  }

  /** Enlarges the memory of logits for prompts that are scored and for guesses: at most maxStepTokens rows, kept from the first of them on. */
  #makeRoom(): void {
    const rows = this.#rows.reduce((sum, row) => sum + logitsRows(row, row.end! - row.start!), 0);
    const size = rows * this.model.config.vocabSize;
    if (size > this.#result.logits.length) this.#result.logits = new Float32Array(size);
  }

  #outputs(): StepOutputs {
    const { logits, hidden, experts, gateWeights } = this.#result;
    return {
      logits,
      experts,
      hidden: this.#sequences.some(({ wantsHidden }) => wantsHidden) ? hidden : undefined,
      gateWeights: this.#sequences.some(({ wantsRouting }) => wantsRouting) ? gateWeights : undefined,
    };
  }

  /** Hands a sequence its part of the step; returns whether it has ended. */
  #take(sequence: Sequence): boolean {
    try {
      if (!sequence.take(this.#result)) return false;
      this.#leave(sequence);
    } catch (error) {
      // An error such as logits without a permitted token ends this sequence and no other.
      this.#slots.give(sequence.slot);
      this.#end({ id: sequence.id, end: true, error: toWire(error) });
    }
    return true;
  }

  #leave(sequence: Sequence): void {
    const { id } = sequence;
    this.#slots.give(sequence.slot);
    if (sequence instanceof CompletionSequence) {
      this.#end({ id, end: true, chunk: sequence.takeChunk() ?? undefined });
    } else if (sequence instanceof EmbeddingSequence) this.#end({ id, end: true, result: sequence.result });
  }

  #end(event: WorkerEvent): void {
    this.#events.push(event);
    this.#urgent = true;
  }
}

/** The number of rows of logits of a sequence that feeds `count` tokens. */
function logitsRows({ logits }: DecodeRow, count: number): number {
  if (logits === 'all') return count;
  return logits === 'last' ? 1 : 0;
}
