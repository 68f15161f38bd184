import { requireMemory } from '../base/requireMemory';
import type { DecayExclusion, ResolvedTrainConfig } from '../config/trainConfig';
import { type AdamWBuffers, type AdamWPlaces, type AdamWStep, adamw } from '../memory/operations/training';
import type { Parameter, ParameterStore, Stretch, WeightRange } from '../memory/parameters';
import {
  type Bucket,
  bucketsOf,
  momentBytes,
  ownPartOf,
  partOf,
  type SharingRank,
  stretchWithin,
} from '../memory/partition';
import type { WeightKind } from '../memory/weight';
import { type PlacedParameter, placedIn } from '../model/assemble';

/** The option value that excludes each kind of weight from decay; null for kinds that always decay. */
const EXCLUSION: Record<WeightKind, DecayExclusion | null> = {
  matrix: null,
  embedding: 'embeddings',
  norm: 'norms',
  bias: 'biases',
};

const NONE = new Float32Array(0);

/** A piece of a parameter's moment: elements [start, start + size) of it, which one rank keeps and updates. */
export interface MomentPiece {
  /** `m.<name>` or `v.<name>`. */
  readonly name: string;
  /** The shape of the whole parameter. */
  readonly shape: Parameter['shape'];
  readonly start: number;
  readonly size: number;
  readonly rank: number;
  /** A view of the piece; null on other ranks. */
  readonly data: Float32Array | null;
}

/** A view of what this process keeps of one parameter's moment. */
export interface Moment extends Pick<MomentPiece, 'name' | 'shape' | 'start'> {
  data: Float32Array;
}

/** Neighbouring weights of a part with the same decay. */
interface Run {
  readonly shard: number;
  readonly at: AdamWPlaces;
  readonly size: number;
  readonly decays: boolean;
}

/** A bucket with the moments of this rank's part of it. */
interface OwnedBucket extends Bucket {
  readonly part: WeightRange;
  readonly m: Float32Array;
  readonly v: Float32Array;
  readonly runs: readonly Run[];
}

/**
 * AdamW with bias correction (Loshchilov & Hutter 2019, alg. 2) over the trained weights of a store. Of several ranks each has
 * the moments of its part of every bucket and updates the weights of these parts (ZeRO, Rajbhandari et al. 2020, stage 1). One
 * kernel call for each part, or for each stretch of it where some weights aren't trained or are excluded from decay.
 */
export class AdamW {
  /** null until the moments are needed. */
  #buckets: OwnedBucket[] | null = null;
  readonly #choices: number;
  readonly #buffers: AdamWBuffers = { param: NONE, grad: NONE, m: NONE, v: NONE };

  /**
   * @param ranks which share the work. Default: this process does all.
   * @param parameters those of all ranks, in the order of checkpoints. Default: the store's.
   */
  constructor(
    private readonly store: ParameterStore,
    private readonly config: ResolvedTrainConfig,
    private readonly ranks: SharingRank = { rank: 0, size: 1 },
    private readonly parameters: () => readonly PlacedParameter[] = () => placedIn(store),
  ) {
    this.#choices = store.choices;
  }

  /** Bytes of moments that aren't allocated yet. */
  get missingBytes(): number {
    return this.#buckets === null ? momentBytes(this.store, this.ranks) : 0;
  }

  /** Views of what this rank has of both moments of each trained parameter, as `m.<name>` and `v.<name>`. */
  moments(): Moment[] {
    return this.pieces().flatMap(({ name, shape, start, data }) => {
      return data === null ? [] : [{ name, shape, start, data }];
    });
  }

  /** The moments of all ranks in the order of the parameters, first m and then v: the same list on every rank. */
  pieces(): MomentPiece[] {
    const parameters = this.parameters();
    const own = this.#ensureMoments();
    const found = new Map<ParameterStore, readonly (Bucket & Partial<OwnedBucket>)[]>([[this.store, own]]);
    for (const { store } of parameters) {
      if (!found.has(store)) found.set(store, bucketsOf(store, this.ranks));
    }
    return (['m', 'v'] as const).flatMap((moment) =>
      parameters.flatMap((each) => this.#piecesOf(each, found.get(each.store)!, moment)),
    );
  }

  #piecesOf(
    { parameter: { name, shape, size, gradPlace }, position }: PlacedParameter,
    buckets: readonly (Bucket & Partial<OwnedBucket>)[],
    moment: 'm' | 'v',
  ): MomentPiece[] {
    if (gradPlace === null) return [];
    const { shard, at } = gradPlace;
    const { groupSize = 1 } = this.ranks;
    const pieces: MomentPiece[] = [];
    for (const bucket of buckets) {
      const isApart = bucket.offset >= at + size || bucket.offset + bucket.size <= at;
      if (bucket.shard !== shard || isApart) continue;
      for (let sharer = 0; sharer < bucket.counts.length; sharer++) {
        const part = partOf(bucket, sharer);
        const from = Math.max(at, part.offset);
        const end = Math.min(at + size, part.offset + part.size);
        if (end <= from) continue;
        const rank = bucket.isDivided ? sharer * groupSize + position : sharer;
        const isOwn = rank === this.ranks.rank;
        const data = isOwn ? bucket[moment]!.subarray(from - part.offset, end - part.offset) : null;
        pieces.push({ name: `${moment}.${name}`, shape, start: from - at, size: end - from, rank, data });
      }
    }
    return pieces;
  }

  /**
   * Makes update `step` (from 1) of this rank's parts with the store's gradients, scaled by gradClip / gradNorm if gradNorm exceeds
   * gradClip. The parts' updates, in any order, are bit-identical to the update of one process.
   * @param gradNorm of all gradients.
   * @param onPart called after the update of this rank's part of each bucket, with the bucket's number, from 0.
   */
  update(step: number, lr: number, gradNorm: number, onPart?: (bucket: number) => void): void {
    const { beta1, beta2, eps, gradClip } = this.config;
    const buckets = this.#ensureMoments();
    const all: AdamWStep = {
      lr,
      beta1,
      beta2,
      eps,
      biasCorrection1: 1 - beta1 ** step,
      biasCorrection2: 1 - beta2 ** step,
      gradScale: gradNorm > gradClip ? gradClip / gradNorm : 1,
    };
    for (let b = 0; b < buckets.length; b++) {
      this.#updatePart(buckets[b], all);
      onPart?.(b);
    }
  }

  #updatePart({ shard: gradShard, m, v, runs }: OwnedBucket, all: AdamWStep): void {
    const { store } = this;
    this.#buffers.grad = store.gradShards[gradShard];
    this.#buffers.m = m;
    this.#buffers.v = v;
    for (let i = 0; i < runs.length; i++) {
      const { shard, at, size, decays } = runs[i];
      this.#buffers.param = store.shards[shard];
      adamw(store.kernels, this.#buffers, at, size, all, decays ? this.config.weightDecay : 0);
    }
  }

  #decays(kind: WeightKind): boolean {
    const exclusion = EXCLUSION[kind];
    return exclusion === null || !this.config.weightDecayExclude.includes(exclusion);
  }

  #ensureMoments(): OwnedBucket[] {
    if (this.#choices !== this.store.choices) {
      throw new TypeError('the model trains other parameters now: a later Trainer has chosen them');
    }
    if (this.#buckets !== null) return this.#buckets;
    const { kernels } = this.store;
    requireMemory('AdamW', { moments: this.missingBytes }, kernels.memory.available);
    const stretches = this.store.stretches((kind) => this.#decays(kind));
    this.#buckets = bucketsOf(this.store, this.ranks).map((bucket) => {
      const part = ownPartOf(bucket, this.ranks);
      const runs = stretches.flatMap((stretch) => runWithin(stretch, part) ?? []);
      const [m, v] = [kernels.memory.floats(part.size, true), kernels.memory.floats(part.size, true)];
      return { ...bucket, part, m, v, runs };
    });
    return this.#buckets;
  }
}

function runWithin(stretch: Stretch<boolean>, part: WeightRange): Run | null {
  const found = stretchWithin(stretch, part);
  if (found === null) return null;
  const { shard, offset, gradOffset, size, key: decays } = found;
  return { shard, at: { param: offset, grad: gradOffset, moment: gradOffset - part.offset }, size, decays };
}
