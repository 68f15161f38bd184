import { readOnlyView, refuseStored } from './readOnly';
import { gradientPlace } from './trainedParts';
import type { Weight } from './weight';

/** A public tensor of the model: a part of a weight, under its checkpoint name. */
export class Parameter {
  #grad: Float32Array | null = null;
  #data: Float32Array | null = null;
  #readOnly: Float32Array | null = null;

  constructor(
    readonly name: string,
    readonly shape: readonly number[],
    /** @internal */
    readonly weight: Weight,
    /** Its first element in the weight. @internal */
    readonly start: number,
    private readonly store: { readonly gradShards: readonly Float32Array[] },
  ) {}

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, n) => product * n, 1);
  }

  /**
   * The values, row-major: a live view of the model's weights. For a frozen model it is read-only: writing throws
   * SgemoeError SGEMOE_MODEL_FROZEN (readOnly.ts). Writes through an array taken before the model was frozen can't be
   * noticed; packed copies then keep the old values. A matrix that is kept as it is stored has no such values: SgemoeError
   * SGEMOE_MODEL_STORED.
   */
  get data(): Float32Array {
    if (this.isStored) refuseStored();
    this.#data ??= this.weight.data.subarray(this.start, this.start + this.size);
    if (!this.weight.frozen) return this.#data;
    this.#readOnly ??= readOnlyView(this.#data);
    return this.#readOnly;
  }

  /** The gradient of the last backward: a live view; null before the first backward, and if it isn't trained. */
  get grad(): Float32Array | null {
    const { gradShards } = this.store;
    if (this.#grad !== null || gradShards.length === 0) return this.#grad;
    const place = this.gradPlace;
    this.#grad = place && gradShards[place.shard].subarray(place.at, place.at + this.size);
    return this.#grad;
  }

  /** The places of gradients have changed. @internal */
  forgetGrad(): void {
    this.#grad = null;
  }

  /** Where its gradient lies in the buffers of gradients; null if it isn't trained. @internal */
  get gradPlace(): { readonly shard: number; readonly at: number } | null {
    return gradientPlace(this.weight, this.start, this.size);
  }

  /** Whether it belongs to a matrix that is kept as it is stored. */
  get isStored(): boolean {
    return this.weight.isStored;
  }

  /** A view of this tensor's part of buffers of the weights. */
  viewIn(shards: readonly Float32Array[]): Float32Array {
    if (this.isStored) refuseStored();
    const from = this.weight.offset + this.start;
    return shards[this.weight.shard].subarray(from, from + this.size);
  }
}
