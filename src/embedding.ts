import { getKernels } from './backend';
import type { Kernels } from './backend/kernels';
import { SgemoeError } from './errors';
import { DEFAULT_SEED, type LayerOptions } from './layers';
import { type Parameter, ParameterStore, type Weight } from './parameters';
import { Tensor } from './tensor';
import type { Workspace } from './workspace';

/**
 * y[t] = W[ids[t]], W [vocabSize,dim], std sqrt(2/dim) at first. Backward: dW[ids[t]] += dy[t]; repeated ids add up.
 */
export class Embedding {
  readonly kernels: Kernels;
  readonly store: ParameterStore;
  readonly weight: Parameter;
  readonly #table: Weight;
  #ids: Int32Array | null = null;

  constructor(
    readonly vocabSize: number,
    readonly dim: number,
    options: LayerOptions = {},
  ) {
    this.kernels = options.store?.kernels ?? options.kernels ?? getKernels();
    this.store = options.store ?? new ParameterStore(this.kernels);
    this.#table = this.store.addWeight(vocabSize * dim, { kind: 'kaiming', fanIn: dim });
    this.weight = this.store.expose(`${options.prefix ?? ''}weight`, [vocabSize, dim], this.#table);
    if (options.store === undefined) {
      this.store.allocate();
      this.store.initialise(options.seed ?? DEFAULT_SEED);
    }
  }

  /** Rows for ws.ints[ids ..], written to ws.floats[y ..]. */
  forwardAt(ws: Workspace, ids: number, y: number, tokens: number): void {
    this.kernels.gatherRows(this.#table.data, 0, this.vocabSize, ws.ints, ids, ws.floats, y, tokens, this.dim);
  }

  backwardAt(ws: Workspace, ids: number, dy: number, tokens: number): void {
    this.kernels.embeddingBackward(
      ws.floats, dy, ws.ints, ids, this.#table.grad!, 0, this.vocabSize, tokens, this.dim,
    );
  }

  /**
   * int32 ids of any shape -> [...shape, dim].
   * @throws RangeError for an id outside [0, vocabSize).
   */
  forward(ids: Tensor): Tensor {
    if (!(ids.data instanceof Int32Array)) {
      throw new TypeError(`Embedding: ids must be an int32 tensor, got ${ids.dtype}`);
    }
    checkIds('Embedding', ids.data, this.vocabSize);
    const y = Tensor.zeros([...ids.shape, this.dim], { dtype: this.kernels.floatType });
    this.#ids = ids.data.slice();
    this.kernels.gatherRows(
      this.#table.data, 0, this.vocabSize, this.#ids, 0, y.data as Float32Array, 0, ids.size, this.dim,
    );
    return y;
  }

  /** Adds to the table's gradient. dy [...shape, dim] of the last forward. */
  backward(dy: Tensor): void {
    if (this.#ids === null) throw new SgemoeError('SGEMOE_NO_FORWARD', 'backward needs a forward before it');
    this.store.ensureGradients();
    this.kernels.embeddingBackward(
      dy.data as Float32Array, 0, this.#ids, 0, this.#table.grad!, 0, this.vocabSize, this.#ids.length, this.dim,
    );
  }
}

/** @throws RangeError naming the first id that is not an integer in [0, vocabSize). */
export function checkIds(what: string, ids: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (!(id >= 0 && id < vocabSize) || !Number.isInteger(id)) {
      throw new RangeError(`${what}: token id ${id} at position ${i} must be an integer in [0, ${vocabSize})`);
    }
  }
}
