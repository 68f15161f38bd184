import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkFactor, checkIds, checkInteger, checkOptions, checkTensor } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { DEFAULT_SEED } from '../base/random';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { type Bias, Matrix, type Weight } from '../memory/weight';
import { Planner, Workspace } from '../memory/workspace';
import { Tensor } from '../tensor/tensor';

/** Options of every layer. A layer of a model shares the model's store; one of its own has a store of its own. */
export interface LayerOptions {
  /** Seed of the initial weights. Default 42. */
  seed?: number;
  /** Prefix of the parameters' names, such as 'model.layers.0.self_attn.'. Default ''. */
  prefix?: string;
  /** What computes. Default: the process's backend. */
  kernels?: Kernels;
  /** The store of the model the layer belongs to; the model then allocates and initialises. */
  store?: ParameterStore;
}

const LAYER_OPTIONS: readonly (keyof LayerOptions)[] = ['seed', 'prefix', 'kernels', 'store'];

/**
 * A layer works on a workspace: `plan` reserves what forward must keep (slots), `planBackward` what backward needs
 * meanwhile (scratch); forwardAt and backwardAt then compute with offsets alone and allocate nothing. `x`, `y` and
 * their gradients `dx`, `dy` are offsets of [T, inDim] and [T, outDim] in `ws.floats`. `accumulate` adds to the
 * output instead of writing it; a layer that never feeds a residual stream leaves it out and always writes.
 *
 * forward and backward are the same on Tensors, for a layer on its own: they copy in and out.
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

  /** To be called at the end of a constructor, when all weights have been added. */
  protected built(): void {
    if (!this.#ownsStore) return;
    this.store.allocate();
    this.store.initialise(this.#seed);
  }

  /** The layer's parameters by name; of a layer inside a model: the model's. */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    for (const parameter of this.store.parameters) yield [parameter.name, parameter];
  }

  abstract plan(planner: Planner, batch: number, seq: number): Slots;
  abstract planBackward(planner: Planner, batch: number, seq: number): Scratch;
  /** y from x. */
  abstract forwardAt(ws: Workspace, s: Slots, x: number, y: number, accumulate: boolean): void;
  /** dx from dy, and the weights' gradients: gradBeta * what they were + theirs. dx must not overlap dy. */
  abstract backwardAt(
    ws: Workspace, s: Slots, scratch: Scratch, x: number, dy: number, dx: number, accumulate: boolean,
  ): void;

  /** Fills what the slots hold before a forward (positions and the like). */
  prepare(_ws: Workspace, _slots: Slots): void {}

  /**
   * y = layer(x), x [B,S,inDim] or [T,inDim] (one sequence), y of the same leading shape.
   * @throws TypeError for another dtype, RangeError for another shape.
   */
  forward(x: Tensor): Tensor<'float32'> {
    const pass = this.#enter(x);
    pass.ws.floats.set(x.data as Float32Array, pass.x);
    this.prepare(pass.ws, pass.slots);
    this.forwardAt(pass.ws, pass.slots, pass.x, pass.y, false);
    return this.#read(pass, pass.y, this.outDim);
  }

  /**
   * The gradient of the last forward's input, dy of that forward's output shape. Adds to the parameters' gradients.
   * @throws SgemoeError SGEMOE_NO_FORWARD without a forward before.
   */
  backward(dy: Tensor): Tensor<'float32'> {
    const pass = this.pass;
    if (pass === null) throw new SgemoeError('SGEMOE_NO_FORWARD', 'backward needs a forward before it');
    checkTensor('backward: dy', dy, [...pass.leading, this.outDim], this.kernels.floatType);
    this.store.ensureGradients();
    pass.ws.floats.set(dy.data as Float32Array, pass.dy);
    this.backwardAt(pass.ws, pass.slots, pass.scratch, pass.x, pass.dy, pass.dx, false);
    return this.#read(pass, pass.dx, this.inDim);
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
    const planner = new Planner();
    const tokens = batch * seq;
    this.#workspace ??= new Workspace(this.kernels);
    this.pass = {
      leading, tokens,
      x: planner.floats(tokens * this.inDim), y: planner.floats(tokens * this.outDim),
      dx: planner.floats(tokens * this.inDim), dy: planner.floats(tokens * this.outDim),
      slots: this.plan(planner, batch, seq), scratch: this.planBackward(planner, batch, seq),
      ws: this.#workspace,
    };
    this.#workspace.ensure(planner);
    return this.pass;
  }

  #read(pass: TensorPass<Slots, Scratch>, offset: number, cols: number): Tensor<'float32'> {
    const data = pass.ws.floats.slice(offset, offset + pass.tokens * cols);
    // See Kernels.floatType: float64 hides behind the same type.
    return new Tensor(data, [...pass.leading, cols], this.kernels.floatType as 'float32');
  }
}

/** Where the Tensor form of a layer keeps its last forward. */
export interface TensorPass<Slots, Scratch> {
  leading: number[];
  tokens: number;
  x: number;
  y: number;
  dx: number;
  dy: number;
  slots: Slots;
  scratch: Scratch;
  ws: Workspace;
}

export interface EmbeddingOptions extends LayerOptions {
  /** m, a number > 0. Default 1. */
  multiplier?: number;
  /** Whether a Linear shares the table (`LinearOptions.tiedTo`). Default false. */
  tied?: boolean;
}

/**
 * y[t] = m W[ids[t]], W [vocabSize,dim], std sqrt(2/dim) at first. Backward: dW[ids[t]] += m dy[t]; repeated ids add up.
 * Of a table that a Linear shares the gradient is the sum of both uses (Press & Wolf 2017); the Linear's backward
 * comes first.
 */
export class Embedding {
  readonly kernels: Kernels;
  readonly store: ParameterStore;
  readonly weight: Parameter;
  readonly multiplier: number;
  readonly #table: Weight;
  #ids: Int32Array | null = null;
  #shape: readonly number[] = [];

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
      : this.store.addWeight(vocabSize * dim, { kind: 'kaiming', fanIn: dim }, 'embedding');
    this.weight = this.store.expose(`${options.prefix ?? ''}weight`, [vocabSize, dim], this.#table);
    if (options.store === undefined) {
      this.store.allocate();
      this.store.initialise(options.seed ?? DEFAULT_SEED);
    }
  }

  /** The table, for the Linear that shares it; null unless `tied`. */
  get tiedMatrix(): Matrix | null {
    return this.#table instanceof Matrix ? this.#table : null;
  }

  /** Rows for ws.ints[ids ..], written to ws.floats[y ..]. */
  forwardAt(ws: Workspace, ids: number, y: number, tokens: number): void {
    const { kernels: k, dim, multiplier } = this;
    k.gatherRows(this.#table.data, 0, this.vocabSize, ws.ints, ids, ws.floats, y, tokens, dim);
    if (multiplier !== 1) k.scale(ws.floats, y, tokens * dim, multiplier);
  }

  /** Uses dy up: it is multiplied by m in place. */
  backwardAt(ws: Workspace, ids: number, dy: number, tokens: number): void {
    const grad = this.#table.grad!;
    // What a tied Linear has written must stay.
    if (this.store.gradBeta === 0 && this.tiedMatrix === null) {
      // Zeros as a product over nothing: `fill` writes shared memory element by element, four times as slow.
      this.kernels.sgemm(
        false, false, this.vocabSize, this.dim, 0, 1, grad, 0, 0, grad, 0, this.dim, 0, grad, 0, this.dim,
      );
    }
    if (this.multiplier !== 1) this.kernels.scale(ws.floats, dy, tokens * this.dim, this.multiplier);
    this.kernels.embeddingBackward(
      ws.floats, dy, ws.ints, ids, grad, 0, this.vocabSize, tokens, this.dim,
    );
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
    const kept = ids.data.slice();
    this.kernels.gatherRows(
      this.#table.data, 0, this.vocabSize, kept, 0, y.data, 0, kept.length, this.dim,
    );
    if (this.multiplier !== 1) this.kernels.scale(y.data, 0, y.data.length, this.multiplier);
    this.#ids = kept;
    this.#shape = y.shape;
    return y;
  }

  /** Adds to the table's gradient. dy [...shape, dim] of the last forward. */
  backward(dy: Tensor): void {
    if (this.#ids === null) throw new SgemoeError('SGEMOE_NO_FORWARD', 'backward needs a forward before it');
    checkTensor('backward: dy', dy, this.#shape, this.kernels.floatType);
    this.store.ensureGradients();
    const scaled = this.multiplier === 1 ? dy : dy.mul(this.multiplier);
    this.kernels.embeddingBackward(
      scaled.data as Float32Array, 0, this.#ids, 0, this.#table.grad!, 0, this.vocabSize, this.#ids.length, this.dim,
    );
  }
}

/** Number of rows a layer without other needs works on. */
interface RowSlots {
  rows: number;
}

export interface LinearOptions extends LayerOptions {
  /** Adds b, zero at first. Default false. */
  bias?: boolean;
  /** s, a number > 0. Default 1. */
  scale?: number;
  /** Multiply by the table of this embedding, made with `tied` in the same store, instead of a W of one's own. */
  tiedTo?: Embedding;
}

/**
 * y = s (x W^T (+ b)), W [outDim,inDim], b [outDim].
 * Backward: dx = s dy W, dW += s dy^T x, db += s sum_t dy. docs/gradients/linear.md
 */
export class Linear extends Layer<RowSlots & { ones: number }> {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly scale: number;
  readonly #w: Matrix;
  readonly #b: Bias | null;

  constructor(inDim: number, outDim: number, options: LinearOptions = {}) {
    super(inDim, outDim, options, ['bias', 'scale', 'tiedTo']);
    const prefix = options.prefix ?? '';
    this.scale = options.scale ?? 1;
    checkFactor('Linear: scale', this.scale);
    const tied = options.tiedTo ? this.#tableOf(options.tiedTo) : null;
    this.#w = tied ?? this.store.addMatrix(outDim, inDim);
    this.weight = options.tiedTo?.weight ?? this.store.expose(`${prefix}weight`, [outDim, inDim], this.#w);
    this.#b = options.bias ? this.store.addBias(outDim) : null;
    this.bias = this.#b && this.store.expose(`${prefix}bias`, [outDim], this.#b);
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): RowSlots & { ones: number } {
    return { rows: batch * seq, ones: planner.floats(this.#b ? batch * seq : 0) };
  }

  planBackward(): undefined {}

  forwardAt(ws: Workspace, s: RowSlots & { ones: number }, x: number, y: number, accumulate: boolean): void {
    this.forwardInto(ws, s, x, ws.floats, y, accumulate);
  }

  /** forwardAt with the output in an array of its own, such as the data of a result. */
  forwardInto(
    ws: Workspace, s: RowSlots & { ones: number }, x: number, out: Float32Array, y: number, accumulate: boolean,
  ): void {
    const { kernels: k, scale } = this;
    let beta = accumulate ? 1 : 0;
    if (this.#b) {
      this.#b.spread(k, s.rows, ws.floats, s.ones, beta, out, y, scale);
      beta = 1;
    }
    this.#w.multiply(k, s.rows, ws.floats, x, beta, out, y, scale);
  }

  backwardAt(
    ws: Workspace, s: RowSlots & { ones: number }, _: undefined, x: number, dy: number, dx: number, accumulate: boolean,
  ): void {
    const { kernels: k, inDim, outDim, scale } = this;
    const { gradBeta } = this.store;
    const f = ws.floats;
    const beta = accumulate ? 1 : 0;
    k.sgemm(true, false, outDim, inDim, s.rows, scale, f, dy, outDim, f, x, inDim, gradBeta, this.#w.grad!, 0, inDim);
    if (this.#b) this.#b.addGradient(k, s.rows, f, s.ones, dy, gradBeta, scale);
    k.sgemm(false, false, s.rows, inDim, outDim, scale, f, dy, outDim, this.#w.data, 0, inDim, beta, f, dx, inDim);
  }

  #tableOf(embedding: Embedding): Matrix {
    const matrix = embedding.tiedMatrix;
    if (matrix?.rows === this.outDim && matrix.cols === this.inDim && embedding.store === this.store) return matrix;
    throw new TypeError('Linear: tiedTo must be an embedding [outDim,inDim] made with `tied`, of the same store');
  }
}

/**
 * y = gamma * x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019, eq. 4). gamma [dim], ones at first.
 * Backward, with s = 1/sqrt(..), g = dy*gamma: dx = s*g - s^3 * x * mean(g*x), dgamma += sum_t dy*x*s.
 * docs/gradients/rms-norm.md
 */
export class RMSNorm extends Layer<RowSlots & { invRms: number }> {
  readonly weight: Parameter;
  readonly #gamma: Weight;

  /** @param options.eps added to the mean square. Default 1e-6. */
  constructor(
    dim: number,
    private readonly options: LayerOptions & { eps?: number } = {},
  ) {
    super(dim, dim, options, ['eps']);
    this.#gamma = this.store.addWeight(dim, { kind: 'ones' }, 'norm');
    this.weight = this.store.expose(`${options.prefix ?? ''}weight`, [dim], this.#gamma);
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): RowSlots & { invRms: number } {
    return { rows: batch * seq, invRms: planner.floats(batch * seq) };
  }

  planBackward(): undefined {}

  forwardAt(ws: Workspace, s: RowSlots & { invRms: number }, x: number, y: number): void {
    const { kernels: k, inDim: dim } = this;
    const f = ws.floats;
    const eps = this.options.eps ?? 1e-6;
    k.rmsNormForward(f, x, dim, this.#gamma.data, 0, f, y, dim, f, s.invRms, s.rows, dim, eps);
  }

  backwardAt(
    ws: Workspace, s: RowSlots & { invRms: number }, _: undefined, x: number, dy: number, dx: number, accumulate: boolean,
  ): void {
    const { kernels: k, inDim: dim } = this;
    const f = ws.floats;
    if (this.store.gradBeta === 0) this.#gamma.grad!.fill(0);
    k.rmsNormBackward(
      f, x, dim, this.#gamma.data, 0, f, s.invRms, f, dy, dim, f, dx, dim, accumulate,
      this.#gamma.grad!, 0, s.rows, dim,
    );
  }
}

interface SwiGLUSlots {
  rows: number;
  gateUp: number;
  act: number;
}

interface SwiGLUScratch {
  dAct: number;
  dGateUp: number;
}

/**
 * y = s (silu(x W1^T) * x W3^T) W2^T (Shazeer 2020, eq. 6): the feed-forward network of one expert.
 * W1 (gate), W3 (up) [ffnDim,dim], stored as one matrix gate|up; W2 (down) [dim,ffnDim]. docs/gradients/swiglu.md
 */
export class SwiGLU extends Layer<SwiGLUSlots, SwiGLUScratch> {
  readonly scale: number;
  readonly #gateUp: Matrix;
  readonly #down: Matrix;

  /** @param options.scale s, a number > 0. Default 1. */
  constructor(
    dim: number,
    readonly ffnDim: number,
    options: LayerOptions & { scale?: number } = {},
  ) {
    super(dim, dim, options, ['scale']);
    checkInteger('SwiGLU: ffnDim', ffnDim, 1);
    this.scale = options.scale ?? 1;
    checkFactor('SwiGLU: scale', this.scale);
    const prefix = options.prefix ?? '';
    this.#gateUp = this.store.addMatrix(2 * ffnDim, dim);
    this.#down = this.store.addMatrix(dim, ffnDim);
    this.store.expose(`${prefix}w1.weight`, [ffnDim, dim], this.#gateUp);
    this.store.expose(`${prefix}w2.weight`, [dim, ffnDim], this.#down);
    this.store.expose(`${prefix}w3.weight`, [ffnDim, dim], this.#gateUp, ffnDim * dim);
    this.built();
  }

  plan(planner: Planner, batch: number, seq: number): SwiGLUSlots {
    const rows = batch * seq;
    return { rows, gateUp: planner.floats(rows * 2 * this.ffnDim), act: planner.floats(rows * this.ffnDim) };
  }

  planBackward(planner: Planner, batch: number, seq: number): SwiGLUScratch {
    const rows = batch * seq;
    return { dAct: planner.floats(rows * this.ffnDim), dGateUp: planner.floats(rows * 2 * this.ffnDim) };
  }

  forwardAt(ws: Workspace, s: SwiGLUSlots, x: number, y: number, accumulate: boolean): void {
    const { kernels: k, ffnDim: F } = this;
    const f = ws.floats;
    this.#gateUp.multiply(k, s.rows, f, x, 0, f, s.gateUp);
    k.swigluForward(f, s.gateUp, f, s.act, s.rows, F);
    this.#down.multiply(k, s.rows, f, s.act, accumulate ? 1 : 0, f, y, this.scale);
  }

  backwardAt(
    ws: Workspace, s: SwiGLUSlots, scratch: SwiGLUScratch, x: number, dy: number, dx: number, accumulate: boolean,
  ): void {
    const { kernels: k, inDim: H, ffnDim: F, scale } = this;
    const { dAct, dGateUp } = scratch;
    const f = ws.floats;
    k.sgemm(true, false, H, F, s.rows, scale, f, dy, H, f, s.act, F, this.store.gradBeta, this.#down.grad!, 0, F);
    k.sgemm(false, false, s.rows, F, H, scale, f, dy, H, this.#down.data, 0, F, 0, f, dAct, F);
    k.swigluBackward(f, s.gateUp, f, dAct, f, dGateUp, s.rows, F);
    k.sgemm(true, false, 2 * F, H, s.rows, 1, f, dGateUp, 2 * F, f, x, H, this.store.gradBeta, this.#gateUp.grad!, 0, H);
    const beta = accumulate ? 1 : 0;
    k.sgemm(false, false, s.rows, H, 2 * F, 1, f, dGateUp, 2 * F, this.#gateUp.data, 0, H, beta, f, dx, H);
  }
}
