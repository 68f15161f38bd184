import { checkFactor, checkInteger } from '../base/checks';
import type { MatrixView } from '../memory/matrixView';
import { clear, rmsNorm, rmsNormBackward, swiglu, swigluBackward } from '../memory/operations/rows';
import type { Parameter } from '../memory/parameters';
import { type Bias, type Matrix, type Ones, planOnes, type Weight } from '../memory/weight';
import type { Planner } from '../memory/workspace';
import type { Embedding } from './embedding';
import { Layer, type LayerOptions } from './layer';
import { Projection, type ProjectionScratch, type ProjectionSlots } from './projection';

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
