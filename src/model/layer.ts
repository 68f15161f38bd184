import { getKernels } from '../backend';
import type { Kernels } from '../backend/kernels';
import { checkInteger, checkOptions, checkTensor } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { DEFAULT_SEED } from '../base/random';
import { elementsOf, type MatrixView } from '../memory/matrixView';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { Planner, Workspace } from '../memory/workspace';
import { Tensor } from '../tensor/tensor';
import type { Projection } from './projection';

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
