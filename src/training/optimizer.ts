import { requireMemory } from '../base/requireMemory';
import type { DecayExclusion, ResolvedTrainConfig } from '../config/trainConfig';
import { type AdamWBuffers, type AdamWStep, adamw } from '../memory/operations/training';
import type { Parameter, ParameterStore, Stretch, WeightRange } from '../memory/parameters';
import type { WeightKind } from '../memory/weight';

/** The option value that excludes each kind of weight from decay; null for kinds that always decay. */
const EXCLUSION: Record<WeightKind, DecayExclusion | null> = {
  matrix: null,
  embedding: 'embeddings',
  norm: 'norms',
  bias: 'biases',
};

const NONE = new Float32Array(0);

/** A view of one parameter's part of a moment. */
export interface Moment {
  name: string;
  shape: Parameter['shape'];
  data: Float32Array;
}

/**
 * AdamW with bias correction (Loshchilov & Hutter 2019, alg. 2) over the trained weights of a store: one kernel call for
 * each buffer, or for each stretch of it where some weights aren't trained or are excluded from decay.
 */
export class AdamW {
  #m: Float32Array[] = [];
  #v: Float32Array[] = [];
  #stretches: Stretch<boolean>[] = [];
  /** The buffers of the stretch that is updated. */
  readonly #choices: number;
  readonly #buffers: AdamWBuffers = { param: NONE, grad: NONE, m: NONE, v: NONE };

  constructor(
    private readonly store: ParameterStore,
    private readonly config: ResolvedTrainConfig,
  ) {
    this.#choices = store.choices;
  }

  /** Bytes of moments that aren't allocated yet. */
  get missingBytes(): number {
    return this.#m.length > 0 ? 0 : 2 * this.store.mirrorBytes;
  }

  /** Views of both moments of each trained parameter, as `m.<name>` and `v.<name>`. */
  moments(): Moment[] {
    this.#ensureMoments();
    const views = (prefix: string, shards: Float32Array[]) =>
      this.store.parameters.flatMap((parameter) => {
        const data = parameter.gradViewIn(shards);
        return data === null ? [] : [{ name: prefix + parameter.name, shape: parameter.shape, data }];
      });
    return [...views('m.', this.#m), ...views('v.', this.#v)];
  }

  /**
   * Makes update `step` (from 1) with the store's gradients, scaled by gradClip / gradNorm if gradNorm exceeds gradClip.
   * @param gradNorm of all gradients.
   * @param range the weights to update, by their gradients. Default: all that are trained. Updates of disjoint ranges, one after the other, are bit-identical
   * to one update of all.
   */
  update(step: number, lr: number, gradNorm: number, range?: WeightRange): void {
    const { beta1, beta2, eps, weightDecay, gradClip } = this.config;
    this.#ensureMoments();
    const all: AdamWStep = {
      lr,
      beta1,
      beta2,
      eps,
      biasCorrection1: 1 - beta1 ** step,
      biasCorrection2: 1 - beta2 ** step,
      gradScale: gradNorm > gradClip ? gradClip / gradNorm : 1,
    };
    const { store } = this;
    for (let i = 0; i < this.#stretches.length; i++) {
      const { shard, offset, size, gradShard, gradOffset, key: decays } = this.#stretches[i];
      if (range && range.shard !== gradShard) continue;
      const from = Math.max(gradOffset, range?.offset ?? 0);
      const end = Math.min(gradOffset + size, range ? range.offset + range.size : Number.POSITIVE_INFINITY);
      if (end <= from) continue;
      const decay = decays ? weightDecay : 0;
      this.#buffers.param = store.shards[shard];
      this.#buffers.grad = store.gradShards[gradShard];
      this.#buffers.m = this.#m[gradShard];
      this.#buffers.v = this.#v[gradShard];
      adamw(store.kernels, this.#buffers, offset + from - gradOffset, from, end - from, all, decay);
    }
  }

  #decays(kind: WeightKind): boolean {
    const exclusion = EXCLUSION[kind];
    return exclusion === null || !this.config.weightDecayExclude.includes(exclusion);
  }

  #ensureMoments(): void {
    if (this.#choices !== this.store.choices) {
      throw new TypeError('the model trains other parameters now: a later Trainer has chosen them');
    }
    if (this.#m.length > 0) return;
    requireMemory('AdamW', { moments: this.missingBytes }, this.store.kernels.memory.available);
    this.#m = this.store.mirror();
    this.#v = this.store.mirror();
    this.#stretches = this.store.stretches((kind) => this.#decays(kind));
  }
}
