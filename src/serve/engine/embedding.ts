import { SgemoeError } from '../../base/errors';
import type { DecodeRow } from '../../model/decoder';
import type { Lora } from '../../model/lora';
import type { ResolvedEmbeddingForm } from './embedOptions';
import type { EmbeddingResult } from './messages';
import type { Sequence, StepResult } from './sequence';

/** Embeds texts one after the other in one slot, as EmbeddingForm says. */
export class EmbeddingSequence implements Sequence {
  readonly id: number;
  readonly client: string;
  readonly row: DecodeRow;
  readonly wantsHidden = true;
  readonly wantsRouting = false;
  readonly result: EmbeddingResult = { embeddings: [], promptTokens: 0 };
  readonly #sum: Float64Array;
  #fed = 0;

  /** @throws SgemoeError SGEMOE_CONTEXT_FULL, RangeError for a text without tokens; before a slot is taken. */
  constructor(
    { id, client, adapter }: Pick<Sequence, 'id' | 'client'> & { readonly adapter: Lora | null },
    private readonly texts: readonly Int32Array[],
    private readonly form: ResolvedEmbeddingForm,
    hiddenDim: number,
    contextLength: number,
    takeSlot: () => number,
    private readonly empty: (slot: number) => void,
  ) {
    for (const [i, { length }] of texts.entries()) {
      if (length === 0) throw new RangeError(`embed: text ${i} must have at least one token, got none`);
      if (length <= contextLength) continue;
      const text = `Text ${i} has ${length} tokens; the context has room for ${contextLength}.`;
      throw new SgemoeError('SGEMOE_CONTEXT_FULL', text);
    }
    this.id = id;
    this.client = client;
    this.#sum = new Float64Array(hiddenDim);
    this.row = { slot: takeSlot(), tokens: texts[0], start: 0, end: 0, logits: 'none', adapter };
  }

  get slot(): number {
    return this.row.slot;
  }

  get #text(): Int32Array {
    return this.texts[this.result.embeddings.length];
  }

  get ready(): number {
    return this.#text.length - this.#fed;
  }

  draft(): number {
    return 0;
  }

  planDraw(): void {}

  feed(count: number): void {
    if (this.#fed === 0) this.empty(this.slot);
    this.row.tokens = this.#text;
    this.row.start = this.#fed;
    this.#fed += count;
    this.row.end = this.#fed;
  }

  take({ hidden, at, count }: StepResult): boolean {
    const sum = this.#sum;
    const H = sum.length;
    const isLast = this.form.pooling === 'last';
    if (isLast) sum.fill(0);
    for (let t = isLast ? at + count - 1 : at; t < at + count; t++)
      for (let i = 0; i < H; i++) sum[i] += hidden[t * H + i];
    const { length } = this.#text;
    if (this.#fed < length) return false;
    this.result.promptTokens += length;
    this.result.embeddings.push(shaped(sum, isLast ? 1 : length, this.form));
    sum.fill(0);
    this.#fed = 0;
    return this.result.embeddings.length === this.texts.length;
  }
}

/** The embedding of a sum over `count` tokens. An embedding of zeros has no direction and stays. */
function shaped(
  sum: Float64Array,
  count: number,
  { dimensions, normalize }: ResolvedEmbeddingForm,
): Float32Array {
  const kept = sum.subarray(0, dimensions);
  const length = normalize ? Math.hypot(...kept) || 1 : count;
  return Float32Array.from(kept, (value) => value / length);
}
