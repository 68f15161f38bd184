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

/** A view of one parameter's part of a moment. */
export interface Moment {
  name: string;
  shape: Parameter['shape'];
  data: Float32Array;
}

/**
 * AdamW with bias correction (Loshchilov & Hutter 2019, alg. 2) over all weights of a store: one kernel call for each
 * buffer, or for each stretch of it where some weights are excluded from decay.
 */
export class AdamW {
  #m: Float32Array[] = [];
  #v: Float32Array[] = [];
  #stretches: Stretch<boolean>[] = [];
  /** The buffers of each shard; null before the first update, since gradients are allocated by then. */
  #buffers: AdamWBuffers[] | null = null;

  constructor(
    private readonly store: ParameterStore,
    private readonly config: ResolvedTrainConfig,
  ) {}

  /** Bytes of moments that aren't allocated yet. */
  get missingBytes(): number {
    return this.#m.length > 0 ? 0 : 2 * this.store.mirrorBytes;
  }

  /** Views of both moments of each parameter, as `m.<name>` and `v.<name>`. */
  moments(): Moment[] {
    this.#ensureMoments();
    const views = (prefix: string, shards: Float32Array[]) =>
      this.store.parameters.map((p) => ({ name: prefix + p.name, shape: p.shape, data: p.viewIn(shards) }));
    return [...views('m.', this.#m), ...views('v.', this.#v)];
  }

  /**
   * Makes update `step` (from 1) with the store's gradients, scaled by gradClip / gradNorm if gradNorm exceeds gradClip.
   * @param gradNorm of all gradients.
   * @param range the weights to update. Default: all. Updates of disjoint ranges, one after the other, are bit-identical
   * to one update of all.
   */
  update(step: number, lr: number, gradNorm: number, range?: WeightRange): void {
    const { beta1, beta2, eps, weightDecay, gradClip } = this.config;
    this.#ensureMoments();
    this.#buffers ??= this.store.shards.map((param, i) => {
      return { param, grad: this.store.gradShards[i], m: this.#m[i], v: this.#v[i] };
    });
    const all: AdamWStep = {
      lr,
      beta1,
      beta2,
      eps,
      biasCorrection1: 1 - beta1 ** step,
      biasCorrection2: 1 - beta2 ** step,
      gradScale: gradNorm > gradClip ? gradClip / gradNorm : 1,
    };
    for (let i = 0; i < this.#stretches.length; i++) {
      const { shard, key: decays } = this.#stretches[i];
      if (range && range.shard !== shard) continue;
      const offset = Math.max(this.#stretches[i].offset, range?.offset ?? 0);
      const end = Math.min(endOf(this.#stretches[i]), range ? endOf(range) : Number.POSITIVE_INFINITY);
      if (end <= offset) continue;
      const decay = decays ? weightDecay : 0;
      adamw(this.store.kernels, this.#buffers[shard], offset, end - offset, all, decay);
    }
  }

  #decays(kind: WeightKind): boolean {
    const exclusion = EXCLUSION[kind];
    return exclusion === null || !this.config.weightDecayExclude.includes(exclusion);
  }

  #ensureMoments(): void {
    if (this.#m.length > 0) return;
    requireMemory('AdamW', { moments: this.missingBytes }, this.store.kernels.memory.available);
    this.#m = this.store.mirror();
    this.#v = this.store.mirror();
    this.#stretches = this.store.stretches((kind) => this.#decays(kind));
  }
}

function endOf({ offset, size }: WeightRange): number {
  return offset + size;
}
