import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkFactor, checkInteger, checkOptions, checkTensor } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { DEFAULT_SEED } from '../base/random';
import { elementsOf, type MatrixView } from '../memory/matrixView';
import { clear, rmsNorm, rmsNormBackward, swiglu, swigluBackward } from '../memory/operations/rows';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { type Bias, type Matrix, type Ones, planOnes, type Weight } from '../memory/weight';
import { Planner, Workspace } from '../memory/workspace';
import { Tensor } from '../tensor/tensor';
import type { Embedding } from './embedding';
import { Projection, type ProjectionScratch, type ProjectionSlots } from './projection';

/** Options of every layer. A layer of a model shares the model's store; a layer used alone has its own. */
export interface LayerOptions {
  /** Seed of the initial weights. Default 42. */
  seed?: number | undefined;
  /** Prefix of the parameters' names, such as 'model.layers.0.self_attn.'. Default ''. */
  prefix?: string | undefined;
  /** The kernels that compute. Default: the process's backend. */
  kernels?: Kernels | undefined;
  /** The store of the layer's model, which then allocates and initialises the weights. */
  store?: ParameterStore | undefined;
}

export const LAYER_OPTIONS: readonly (keyof LayerOptions)[] = ['seed', 'prefix', 'kernels', 'store'];

/**
 * A layer works on matrices in a workspace: `plan` reserves what forward must keep (slots), `planBackward` the temporary
 * memory of backward (scratch). forwardAt and backwardAt then compute with these and allocate nothing. `x`, `y` and their
 * gradients `dx`, `dy` are [T, inDim] and [T, outDim]. `accumulate` adds to the output instead of writing it; a layer
 * that never feeds a residual stream ignores it and always writes.
 *
 * forward and backward do the same on Tensors, for a layer used alone: they copy in and out.
 */
export abstract class Layer<Slots, Scratch = undefined> {
  readonly kernels: Kernels;
  readonly store: ParameterStore;
  readonly #ownsStore: boolean;
  readonly #seed: number;
  protected pass: TensorPass<Slots, Scratch> | null = null;
  #workspace: Workspace | null = null;

  constructor(
    readonly inDim: number,
    readonly outDim: number,
    options: LayerOptions,
    ownOptions: readonly string[] = [],
  ) {
    checkOptions(new.target.name, options, [...LAYER_OPTIONS, ...ownOptions]);
    checkInteger(`${new.target.name}: the input width`, inDim, 1);
    checkInteger(`${new.target.name}: the output width`, outDim, 1);
    this.#ownsStore = options.store === undefined;
    this.#seed = options.seed ?? DEFAULT_SEED;
    this.kernels = options.store?.kernels ?? options.kernels ?? getKernels();
    this.store = options.store ?? new ParameterStore(this.kernels);
  }

  /** Call it at the end of a constructor, after all weights have been added. */
  protected built(): void {
    if (!this.#ownsStore) return;
    this.store.allocate();
    this.store.initialise(this.#seed);
  }

  /** The layer's parameters by name; for a layer of a model, all of the model's. */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    for (const parameter of this.store.parameters) yield [parameter.name, parameter];
  }

  /** Its products by weight matrices, which adapters can join. */
  get projections(): readonly Projection[] {
    return [];
  }

  abstract plan(planner: Planner, batch: number, seq: number): Slots;
  abstract planBackward(planner: Planner, batch: number, seq: number): Scratch;
  /** Computes y from x. */
  abstract forwardAt(s: Slots, x: MatrixView, y: MatrixView, accumulate: boolean): void;
  /** Computes dx from dy, and gradient = gradBeta * gradient + new gradient for each weight. dx must not overlap dy. */
  abstract backwardAt(
    s: Slots,
    scratch: Scratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void;

  /** Fills the slots' inputs before a forward, such as positions. */
  prepare(_slots: Slots): void {}

  /**
   * y = layer(x), x [B,S,inDim] or [T,inDim] (one sequence), y of the same leading shape.
   * @throws TypeError for another dtype, RangeError for another shape.
   */
  forward(x: Tensor): Tensor<'float32'> {
    const pass = this.#enter(x);
    pass.x.data.set(x.data as Float32Array, pass.x.at);
    this.prepare(pass.slots);
    this.forwardAt(pass.slots, pass.x, pass.y, false);
    return this.#read(pass, pass.y);
  }

  /**
   * The gradient of the last forward's input; dy has the shape of that forward's output. Adds to the parameters' gradients.
   * @throws SgemoeError SGEMOE_NO_FORWARD without an earlier forward.
   */
  backward(dy: Tensor): Tensor<'float32'> {
    const pass = this.pass;
    if (pass === null) throw new SgemoeError('SGEMOE_NO_FORWARD', 'backward needs a forward before it');
    checkTensor('backward: dy', dy, [...pass.leading, this.outDim], this.kernels.floatType);
    this.store.ensureGradients();
    pass.dy.data.set(dy.data as Float32Array, pass.dy.at);
    this.backwardAt(pass.slots, pass.scratch, pass.x, pass.dy, pass.dx, false);
    return this.#read(pass, pass.dx);
  }

  #enter(x: Tensor): TensorPass<Slots, Scratch> {
    if (!(x instanceof Tensor)) throw new TypeError(`forward: x must be a Tensor, got ${typeof x}`);
    const leading = x.shape.slice(0, -1);
    if (leading.length < 1 || leading.length > 2 || x.shape[leading.length] !== this.inDim) {
      throw new RangeError(`forward: x must be [B,S,${this.inDim}] or [T,${this.inDim}], got [${x.shape}]`);
    }
    if (x.dtype !== this.kernels.floatType) {
      throw new TypeError(`forward: x must be a ${this.kernels.floatType} tensor, got ${x.dtype}`);
    }
    const [batch, seq] = leading.length === 2 ? leading : [1, leading[0]];
    const tokens = batch * seq;
    this.#workspace ??= new Workspace(this.kernels);
    const planner = new Planner(this.#workspace);
    this.pass = {
      leading,
      x: planner.floats(tokens, this.inDim),
      y: planner.floats(tokens, this.outDim),
      dx: planner.floats(tokens, this.inDim),
      dy: planner.floats(tokens, this.outDim),
      slots: this.plan(planner, batch, seq),
      scratch: this.planBackward(planner, batch, seq),
    };
    this.#workspace.ensure(planner);
    return this.pass;
  }

  #read(pass: TensorPass<Slots, Scratch>, view: MatrixView): Tensor<'float32'> {
    // See Kernels.floatType: float64 hides behind the same type.
    const type = this.kernels.floatType as 'float32';
    return new Tensor(elementsOf(view), [...pass.leading, view.cols], type);
  }
}

/** The memory of a layer's last forward on Tensors. */
export interface TensorPass<Slots, Scratch> {
  leading: number[];
  /** [T, inDim], and its gradient */
  x: MatrixView;
  dx: MatrixView;
  /** [T, outDim], and its gradient */
  y: MatrixView;
  dy: MatrixView;
  slots: Slots;
  scratch: Scratch;
}

export interface LinearSlots {
  product: ProjectionSlots;
  /** Ones for the bias; null without one. */
  ones: Ones | null;
}

export interface LinearScratch {
  product: ProjectionScratch;
}

export interface RMSNormSlots {
  /** [T] 1/rms of each row */
  invRms: MatrixView;
}

export interface LinearOptions extends LayerOptions {
  /** Whether there is a bias b, initially zero. Default false. */
  bias?: boolean | undefined;
  /** Factor s, a number > 0. Default 1. */
  scale?: number | undefined;
  /** An embedding, made with `tied` in the same store, whose table is W. Default: its own W. */
  tiedTo?: Embedding | undefined;
}

/**
 * y = s (x W^T (+ b)), W [outDim,inDim], b [outDim].
 * Backward: dx = s dy W, dW += s dy^T x, db += s sum_t dy. docs/gradients/linear.md
 */
export class Linear extends Layer<LinearSlots, LinearScratch> {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly scale: number;
  readonly #w: Projection;
  readonly #b: Bias | null;

  constructor(inDim: number, outDim: number, options: LinearOptions = {}) {
    super(inDim, outDim, options, ['bias', 'scale', 'tiedTo']);
    const prefix = options.prefix ?? '';
    this.scale = options.scale ?? 1;
    checkFactor('Linear: scale', this.scale);
    const tied = options.tiedTo ? this.#tableOf(options.tiedTo) : null;
    const w = tied ?? this.store.addMatrix(outDim, inDim);
    this.#w = new Projection(this.store, w, [{ name: prefix.slice(0, -1), rows: outDim }]);
    this.weight = options.tiedTo?.weight ?? this.store.expose(`${prefix}weight`, [outDim, inDim], w);
    this.#b = options.bias ? this.store.addBias(outDim) : null;
    this.bias = this.#b && this.store.expose(`${prefix}bias`, [outDim], this.#b);
    this.built();
  }

  override get projections(): readonly Projection[] {
    return [this.#w];
  }

  plan(planner: Planner, batch: number, seq: number): LinearSlots {
    const tokens = batch * seq;
    return { product: this.#w.plan(planner, tokens), ones: this.#b && planOnes(planner, tokens) };
  }

  planBackward(planner: Planner, batch: number, seq: number): LinearScratch {
    return { product: this.#w.planBackward(planner, batch * seq) };
  }

  forwardAt({ product, ones }: LinearSlots, x: MatrixView, y: MatrixView, accumulate: boolean): void {
    const beta = accumulate ? 1 : 0;
    this.#b?.spread(this.kernels, ones!, y, this.scale, beta);
    this.#w.forwardAt(product, x, y, this.scale, this.#b ? 1 : beta);
  }

  backwardAt(
    { product, ones }: LinearSlots,
    scratch: LinearScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    const { kernels, scale, store } = this;
    this.#b?.addGradient(kernels, ones!, dy, store.gradBeta, scale);
    this.#w.backwardAt(product, scratch.product, x, dy, dx, scale, accumulate ? 1 : 0);
  }

  #tableOf(embedding: Embedding): Matrix {
    const matrix = embedding.tiedMatrix;
    if (matrix?.rows === this.outDim && matrix.cols === this.inDim && embedding.store === this.store)
      return matrix;
    throw new TypeError(
      'Linear: tiedTo must be an embedding [outDim,inDim] made with `tied`, of the same store',
    );
  }
}

/**
 * y = gamma * x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019, eq. 4). gamma [dim], ones at first.
 * Backward, with s = 1/sqrt(..), g = dy*gamma: dx = s*g - s^3 * x * mean(g*x), dgamma += sum_t dy*x*s.
 * docs/gradients/rms-norm.md
 */
export class RMSNorm extends Layer<RMSNormSlots> {
  readonly weight: Parameter;
  readonly #gamma: Weight;

  /** @param options.eps added to the mean square. Default 1e-6. */
  constructor(
    dim: number,
    private readonly options: LayerOptions & { eps?: number | undefined } = {},
  ) {
    super(dim, dim, options, ['eps']);
    this.#gamma = this.store.addWeight(dim, { kind: 'ones' }, 'norm');
    this.weight = this.store.expose(`${options.prefix ?? ''}weight`, [dim], this.#gamma);
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): RMSNormSlots {
    return { invRms: planner.floats(batch * seq) };
  }

  planBackward(): undefined {}

  forwardAt({ invRms }: RMSNormSlots, x: MatrixView, y: MatrixView): void {
    rmsNorm(this.kernels, x, this.#gamma.values, y, invRms, this.options.eps ?? 1e-6);
  }

  backwardAt(
    { invRms }: RMSNormSlots,
    _: undefined,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    if (this.store.gradBeta === 0) clear(this.#gamma.gradient);
    rmsNormBackward(this.kernels, x, this.#gamma, invRms, dy, dx, accumulate);
  }
}

export interface SwiGLUSlots {
  products: { gateUp: ProjectionSlots; down: ProjectionSlots };
  /** [T,2F] gate|up */
  gateUp: MatrixView;
  /** [T,F] silu(gate) up */
  act: MatrixView;
}

export interface SwiGLUScratch {
  products: { gateUp: ProjectionScratch; down: ProjectionScratch };
  /** [T,F] gradient of act */
  dAct: MatrixView;
  /** [T,2F] gradient of gateUp */
  dGateUp: MatrixView;
}

/**
 * y = s (silu(x W1^T) * x W3^T) W2^T (Shazeer 2020, eq. 6): the feed-forward network of one expert.
 * W1 (gate), W3 (up) [ffnDim,dim], stored as one matrix gate|up; W2 (down) [dim,ffnDim]. docs/gradients/swiglu.md
 */
export class SwiGLU extends Layer<SwiGLUSlots, SwiGLUScratch> {
  readonly scale: number;
  readonly #gateUp: Projection;
  readonly #down: Projection;

  /** @param options.scale s, a number > 0. Default 1. */
  constructor(
    dim: number,
    readonly ffnDim: number,
    options: LayerOptions & { scale?: number | undefined } = {},
  ) {
    super(dim, dim, options, ['scale']);
    checkInteger('SwiGLU: ffnDim', ffnDim, 1);
    this.scale = options.scale ?? 1;
    checkFactor('SwiGLU: scale', this.scale);
    const prefix = options.prefix ?? '';
    const { store } = this;
    const gateUp = store.addMatrix(2 * ffnDim, dim);
    const down = store.addMatrix(dim, ffnDim);
    store.expose(`${prefix}w1.weight`, [ffnDim, dim], gateUp);
    store.expose(`${prefix}w2.weight`, [dim, ffnDim], down);
    store.expose(`${prefix}w3.weight`, [ffnDim, dim], gateUp, ffnDim * dim);
    const half = (name: string) => ({ name: prefix + name, rows: ffnDim });
    this.#gateUp = new Projection(store, gateUp, [half('w1'), half('w3')]);
    this.#down = new Projection(store, down, [{ name: `${prefix}w2`, rows: dim }]);
    this.built();
  }

  override get projections(): readonly Projection[] {
    return [this.#gateUp, this.#down];
  }

  plan(planner: Planner, batch: number, seq: number): SwiGLUSlots {
    const tokens = batch * seq;
    return {
      products: { gateUp: this.#gateUp.plan(planner, tokens), down: this.#down.plan(planner, tokens) },
      gateUp: planner.floats(tokens, 2 * this.ffnDim),
      act: planner.floats(tokens, this.ffnDim),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): SwiGLUScratch {
    const tokens = batch * seq;
    return {
      products: {
        gateUp: this.#gateUp.planBackward(planner, tokens),
        down: this.#down.planBackward(planner, tokens),
      },
      dAct: planner.floats(tokens, this.ffnDim),
      dGateUp: planner.floats(tokens, 2 * this.ffnDim),
    };
  }

  forwardAt({ products, gateUp, act }: SwiGLUSlots, x: MatrixView, y: MatrixView, accumulate: boolean): void {
    this.#gateUp.forwardAt(products.gateUp, x, gateUp);
    swiglu(this.kernels, gateUp, act);
    this.#down.forwardAt(products.down, act, y, this.scale, accumulate ? 1 : 0);
  }

  backwardAt(
    { products, gateUp, act }: SwiGLUSlots,
    { products: scratch, dAct, dGateUp }: SwiGLUScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    this.#down.backwardAt(products.down, scratch.down, act, dy, dAct, this.scale);
    swigluBackward(this.kernels, gateUp, dAct, dGateUp);
    this.#gateUp.backwardAt(products.gateUp, scratch.gateUp, x, dGateUp, dx, 1, accumulate ? 1 : 0);
  }
}
