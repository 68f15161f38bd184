import { counterRandom } from '../base/counterRandom';
import { requireMemory } from '../base/requireMemory';
import { type LoraOptions, type ResolvedLoraOptions, resolveLoraOptions } from '../config/loraOptions';
import type { ModelConfig } from '../config/modelConfig';
import { ParameterStore } from '../memory/parameters';
import type { SharedLora } from '../memory/sharedModel';
import type { Dropout } from './dropout';
import type { Embedding } from './embedding';
import { EmbeddingAdapter } from './embeddingAdapter';
import { LowRankAdapter } from './lowRankAdapter';
import { chosenNames } from './partNames';
import { type ModelParts, projectionsOf } from './parts';
import type { Projection } from './projection';

/** Words for targets, as patterns of the names of projections' parts. */
export const TARGET_WORDS: Readonly<Record<string, readonly string[]>> = {
  attention: ['self_attn'],
  experts: ['experts', 'shared_expert', 'mlp'],
  router: ['block_sparse_moe.gate'],
  embedding: ['embed_tokens'],
  all: ['self_attn', 'experts', 'shared_expert', 'mlp', 'block_sparse_moe.gate'],
};

/** A model that takes adapters. */
export interface AdaptableModel extends Parts {
  readonly config: ModelConfig;
  readonly origin: { readonly path: string } | null;
  readonly lora: Lora | null;
  addLora(lora: Lora): Lora;
}

/** The layers that adapters can join. */
type Parts = Pick<ModelParts, 'embedding' | 'blocks' | 'lmHead'> & { readonly store: ParameterStore };

/**
 * Low-rank adapters beside a model's weight matrices (LoRA: Hu et al. 2021), in a store of their own: they alone have gradients and
 * moments, and the weights stay as they are, float32 or stored. For the experts of a layer, A [E,r,in] and B [E,out,r] are
 * stacked as the experts are; gate and up share one A. A starts uniform in +-1/sqrt(in), B at 0, so that the adapted model
 * starts as its base; the embedding's A starts at 0 and its B uniform in +-1/sqrt(r). docs/gradients/lora.md
 */
export class Lora {
  readonly options: ResolvedLoraOptions;
  readonly store: ParameterStore;
  /** Those of the projections, in the order of memory. */
  readonly adapters: readonly LowRankAdapter[];
  /** That of the embedding, whose memory follows; null without one. */
  readonly embedding: EmbeddingAdapter | null;
  /** The lowest block that a backward must reach: 0 for the embedding's adapter; the number of blocks if only lm_head has one. */
  readonly firstBlock: number;
  /** The store of the model that they were made for. */
  readonly base: ParameterStore;
  /** @internal */
  readonly dropout: Dropout;
  readonly #parts: Parts;
  readonly #places: ReadonlyMap<Projection, (LowRankAdapter | null)[]>;

  /**
   * Reserves the adapters; `allocate` gives them memory and `attach` makes the model use them.
   * @param shared the memory of the same adapters in another thread, as `share` gives it.
   * @throws RangeError for a target that the model doesn't have, and for dropout with experts as targets.
   */
  constructor(parts: Parts, options: LoraOptions, shared?: SharedLora) {
    this.base = parts.store;
    this.#parts = parts;
    this.options = resolveLoraOptions(options);
    const { targets, rank, alpha, rsLora, dropout, seed } = this.options;
    this.store = new ParameterStore(parts.store.kernels, { shared });
    this.dropout = { rate: dropout, seed, isOn: false, pass: 0 };
    const scale = alpha / (rsLora ? Math.sqrt(rank) : rank);
    const { blocks, embedding } = parts;
    const projections = projectionsOf(parts);
    const names = projections.flatMap((each) => each.parts.map(({ name }) => name));
    const chosen = chosenNames('LoRA: targets', targets, [embedding.name, ...names], TARGET_WORDS);
    const adapters: LowRankAdapter[] = [];
    const isAdapted = new Set<Projection>();
    this.#places = new Map(
      projections.map((projection) => {
        let at = 0;
        const ofParts = projection.parts.map(({ name, rows }) => {
          const first = at;
          at += rows;
          if (!chosen.has(name)) return null;
          if (dropout > 0 && projection.matrix.count > 1) {
            throw new RangeError(
              `LoRA: dropout must be 0 for stacked experts such as ${name}, got ${dropout}`,
            );
          }
          const adapter = this.#reserve(projection, name, rows, first, scale, adapters.length);
          adapters.push(adapter);
          isAdapted.add(projection);
          return adapter;
        });
        return [projection, ofParts];
      }),
    );
    this.adapters = adapters;
    this.embedding = chosen.has(embedding.name) ? this.#reserveEmbedding(embedding, scale) : null;
    if (this.embedding !== null) {
      this.firstBlock = 0;
      return;
    }
    const first = blocks.findIndex((block) => block.projections.some((each) => isAdapted.has(each)));
    this.firstBlock = first < 0 ? blocks.length : first;
  }

  #reserve(
    { matrix }: Projection,
    name: string,
    rows: number,
    at: number,
    scale: number,
    index: number,
  ): LowRankAdapter {
    const { store } = this;
    const { rank } = this.options;
    const { cols, count } = matrix;
    const a = store.addMatrix(rank, cols, count);
    const b = store.addMatrix(rows, rank, count);
    const stacked = count > 1 ? [count] : [];
    store.expose(`${name}.lora_A.weight`, [...stacked, rank, cols], a);
    store.expose(`${name}.lora_B.weight`, [...stacked, rows, rank], b);
    return new LowRankAdapter(store, { name, at, a, b, scale, index }, this.dropout);
  }

  #reserveEmbedding({ name, vocabSize, dim }: Embedding, scale: number): EmbeddingAdapter {
    const { store } = this;
    const { rank } = this.options;
    const a = store.addMatrix(vocabSize, rank);
    const b = store.addMatrix(dim, rank);
    store.expose(`${name}.lora_embedding_A`, [vocabSize, rank], a);
    store.expose(`${name}.lora_embedding_B`, [dim, rank], b);
    return new EmbeddingAdapter(store, name, a, b, scale);
  }

  /** The modules that have an adapter, in the order of memory. */
  get names(): string[] {
    const names = this.adapters.map(({ name }) => name);
    return this.embedding === null ? names : [...names, this.embedding.name];
  }

  /** Gives the adapters memory and their initial values. @throws SgemoeError SGEMOE_MEMORY */
  allocate(): void {
    const { store } = this;
    requireMemory('The adapters', { weights: store.weightBytes }, store.kernels.memory.available);
    store.allocate();
    const { seed } = this.options;
    const random = this.adapters.map(({ a }) => a);
    if (this.embedding !== null) random.push(this.embedding.b);
    random.forEach((a, i) => {
      const key = [Math.floor(seed / 2 ** 32), i].reduce(counterRandom, seed % 2 ** 32);
      const bound = 1 / Math.sqrt(a.cols);
      for (let j = 0; j < a.size; j++) a.data[j] = (counterRandom(key, j) / 2 ** 31 - 1) * bound;
    });
  }

  /** The adapters of a projection's parts, null where a part has none. */
  partsOf(projection: Projection): readonly (LowRankAdapter | null)[] {
    return this.#places.get(projection) ?? [];
  }

  /** The adapters in a form for other threads, which see what is written: `Lora.fromShared` makes them anew there. */
  share(): SharedLora {
    const { shards, bufferData, kernels } = this.store;
    for (const array of [...shards, bufferData]) kernels.memory.keep(array);
    return { options: this.options, shards, bufferData };
  }

  /** Adapters for a model, which `addLora` or rows of a Decoder's step may use. @throws as the constructor, and SgemoeError SGEMOE_MEMORY. */
  static create(parts: Parts, options: LoraOptions): Lora {
    const lora = new Lora(parts, options);
    lora.allocate();
    return lora;
  }

  /** Adapters of another thread for a model of the same configuration. */
  static fromShared(parts: Parts, shared: SharedLora): Lora {
    const lora = new Lora(parts, shared.options, shared);
    lora.store.allocate();
    return lora;
  }

  /** Makes the projections use the adapters. */
  attach(): void {
    const form = { rank: this.options.rank, dropout: this.dropout };
    for (const [projection, adapters] of this.#places) Object.assign(projection, { form, adapters });
    this.#parts.embedding.adapter = this.embedding;
  }

  detach(): void {
    for (const [projection] of this.#places) Object.assign(projection, { form: null, adapters: [] });
    this.#parts.embedding.adapter = null;
  }

  /**
   * Adds s B A to the weights of every adapted matrix. @throws SgemoeError SGEMOE_MODEL_STORED or SGEMOE_MODEL_FROZEN; RangeError where
   * the embedding and lm_head are one matrix and either has an adapter, which then can't be added to it.
   */
  addToWeights(): void {
    const { embedding, lmHead } = this.#parts;
    const tied = [
      embedding.name,
      ...lmHead.projections.flatMap(({ parts }) => parts.map(({ name }) => name)),
    ];
    const alone = embedding.tiedMatrix && this.names.find((name) => tied.includes(name));
    if (alone) {
      throw new RangeError(
        `LoRA: ${tied.join(' and ')} are one matrix in this model, to which an adapter of ${alone} alone can't be added`,
      );
    }
    for (const [projection, adapters] of this.#places) {
      if (adapters.every((adapter) => adapter === null)) continue;
      projection.store.requireWritable();
      for (const adapter of adapters) adapter?.addTo(projection.matrix);
    }
    if (this.embedding !== null) embedding.merge(this.embedding);
  }
}
