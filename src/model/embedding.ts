import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkFactor, checkIds, checkInteger, checkOptions, checkTensor } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { DEFAULT_SEED } from '../base/random';
import { type IndexView, indicesOf, type MatrixView, matrixOf } from '../memory/matrixView';
import { embeddingBackward } from '../memory/operations/mixture';
import { clearShared, scale } from '../memory/operations/rows';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { Matrix, type Table } from '../memory/weight';
import { Planner, Workspace } from '../memory/workspace';
import { Tensor } from '../tensor/tensor';
import type { EmbeddingAdapter } from './embeddingAdapter';
import { LAYER_OPTIONS, type LayerOptions } from './layer';
import type { RowAdapters } from './projection';

export interface EmbeddingOptions extends LayerOptions {
  /** Factor m, a number > 0. Default 1. */
  multiplier?: number | undefined;
  /** Whether a Linear shares the table (`LinearOptions.tiedTo`). Default false. */
  tied?: boolean | undefined;
}

export interface EmbeddingSlots {
  /** [T,r] rows of the adapter's A^T; null without an adapter */
  u: MatrixView | null;
}

export interface EmbeddingScratch {
  /** [T,r] gradient of u; null without an adapter */
  du: MatrixView | null;
}

/**
 * y[t] = m W[ids[t]], W [vocabSize,dim] with initial std sqrt(2/dim). Backward: dW[ids[t]] += m dy[t]; repeated ids add up.
 * The gradient of a table that a Linear shares is the sum of both uses (Press & Wolf 2017); the Linear's backward
 * comes first. An adapter adds its rows to those of W.
 */
export class Embedding {
  /** The module's name: the prefix without its last dot. */
  readonly name: string;
  /** null without one */
  adapter: EmbeddingAdapter | null = null;
  /** Set while a step runs some of whose rows have adapters of their own. */
  rowAdapters: RowAdapters | null = null;
  readonly kernels: Kernels;
  readonly store: ParameterStore;
  readonly weight: Parameter;
  readonly multiplier: number;
  readonly #table: Table;
  #workspace: Workspace | null = null;
  #pass: TensorPass | null = null;

  constructor(
    readonly vocabSize: number,
    readonly dim: number,
    options: EmbeddingOptions = {},
  ) {
    checkOptions('Embedding', options, [...LAYER_OPTIONS, 'multiplier', 'tied']);
    checkInteger('Embedding: vocabSize', vocabSize, 1);
    checkInteger('Embedding: dim', dim, 1);
    this.multiplier = options.multiplier ?? 1;
    checkFactor('Embedding: multiplier', this.multiplier);
    this.kernels = options.store?.kernels ?? options.kernels ?? getKernels();
    this.store = options.store ?? new ParameterStore(this.kernels);
    this.#table = options.tied
      ? this.store.addMatrix(vocabSize, dim, 1, 'embedding')
      : this.store.addTable(vocabSize, dim);
    const { prefix = '' } = options;
    this.name = prefix.slice(0, -1);
    this.weight = this.store.expose(`${prefix}weight`, [vocabSize, dim], this.#table);
    if (options.store === undefined) {
      this.store.allocate();
      this.store.initialise(options.seed ?? DEFAULT_SEED);
    }
  }

  /** The table, for the Linear that shares it; null unless `tied`. */
  get tiedMatrix(): Matrix | null {
    return this.#table instanceof Matrix ? this.#table : null;
  }

  /** W += the product of the adapter's matrices. */
  merge(adapter: EmbeddingAdapter): void {
    this.store.requireWritable();
    adapter.addTo(this.#table);
  }

  /** Whether a training changes the table. */
  get isTrained(): boolean {
    return this.#table.isTrained;
  }

  plan(planner: Planner, tokens: number): EmbeddingSlots {
    return { u: this.#planOfRank(planner, tokens) };
  }

  planBackward(planner: Planner, tokens: number): EmbeddingScratch {
    return { du: this.#planOfRank(planner, tokens) };
  }

  #planOfRank(planner: Planner, tokens: number): MatrixView | null {
    return this.adapter && planner.floats(tokens, this.adapter.a.cols);
  }

  /** y [T,dim] from ids [T]. */
  forwardAt({ u }: EmbeddingSlots, ids: IndexView, y: MatrixView): void {
    this.#table.gather(this.kernels, ids, y);
    if (u !== null) this.adapter?.forwardAt(ids, u, y);
    this.rowAdapters?.addEmbeddedAt(ids, y);
    if (this.multiplier !== 1) scale(this.kernels, y, this.multiplier);
  }

  /** Adds to the gradient of the table or of its adapter. It multiplies dy [T,dim] by m in place. */
  backwardAt({ u }: EmbeddingSlots, { du }: EmbeddingScratch, ids: IndexView, dy: MatrixView): void {
    const { adapter, kernels, multiplier } = this;
    const { gradient, isTrained } = this.#table;
    if (!isTrained && adapter === null) return;
    if (multiplier !== 1) scale(kernels, dy, multiplier);
    if (u !== null && du !== null) adapter?.backwardAt(ids, u, du, dy);
    if (!isTrained) return;
    // A tied Linear has already written this gradient: add to it.
    if (this.store.gradBeta === 0 && this.tiedMatrix === null) clearShared(kernels, gradient);
    embeddingBackward(kernels, dy, ids, gradient);
  }

  /**
   * int32 ids of any shape -> [...shape, dim].
   * @throws RangeError for an id outside [0, vocabSize).
   */
  forward(ids: Tensor): Tensor<'float32'> {
    if (!(ids?.data instanceof Int32Array)) {
      throw new TypeError(`Embedding: ids must be an int32 tensor, got ${ids?.dtype}`);
    }
    checkIds('Embedding', ids.data, this.vocabSize);
    // See Kernels.floatType: float64 hides behind the same type.
    const y = Tensor.zeros([...ids.shape, this.dim], { dtype: this.kernels.floatType as 'float32' });
    const pass = this.#enter(ids.data.slice(), y.shape);
    this.forwardAt(pass.slots, pass.ids, matrixOf(y.data, pass.ids.rows, this.dim));
    return y;
  }

  /** Adds to the gradient of the table or of its adapter. dy [...shape, dim] of the last forward. */
  backward(dy: Tensor): void {
    const pass = this.#pass;
    if (pass === null) throw new SgemoeError('SGEMOE_NO_FORWARD', 'backward needs a forward before it');
    checkTensor('backward: dy', dy, pass.shape, this.kernels.floatType);
    this.store.ensureGradients();
    const upstream = matrixOf(dy.data.slice() as Float32Array, pass.ids.rows, this.dim);
    this.backwardAt(pass.slots, pass.scratch, pass.ids, upstream);
  }

  #enter(ids: Int32Array, shape: readonly number[]): TensorPass {
    this.#workspace ??= new Workspace(this.kernels);
    const planner = new Planner(this.#workspace);
    const slots = this.plan(planner, ids.length);
    const scratch = this.planBackward(planner, ids.length);
    this.#workspace.ensure(planner);
    this.#pass = { ids: indicesOf(ids), shape, slots, scratch };
    return this.#pass;
  }
}

/** What backward needs of the last forward on Tensors. */
interface TensorPass {
  readonly ids: IndexView;
  readonly shape: readonly number[];
  readonly slots: EmbeddingSlots;
  readonly scratch: EmbeddingScratch;
}
