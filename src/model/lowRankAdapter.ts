import type { Kernels } from '../backend/kernels';
import type { IndexView, MatrixView } from '../memory/matrixView';
import { matmul } from '../memory/operations/matmul';
import type { ParameterStore } from '../memory/parameters';
import type { Matrix } from '../memory/weight';
import { type Dropout, dropped, droppedBack } from './dropout';

export interface AdapterSlots {
  /** [T,r] u = x' A^T */
  u: MatrixView;
  /** [T,in] x' = x with dropout; null without dropout */
  kept: MatrixView | null;
}

export interface AdapterScratch {
  /** [T,r] gradient of u */
  du: MatrixView;
  /** [T,in] gradient of x'; null without dropout */
  dKept: MatrixView | null;
}

/** Where an adapter stands, and its matrices in the store of the adapters. */
export interface AdapterPlace {
  readonly name: string;
  /** First of the matrix's rows that it adds to. */
  readonly at: number;
  /** [r,in] for each matrix */
  readonly a: Matrix;
  /** [out,r] for each matrix */
  readonly b: Matrix;
  /** s: alpha / r, or alpha / sqrt(r) with rsLoRA. */
  readonly scale: number;
  /** Its own number, which keeps its dropout apart from others'. */
  readonly index: number;
}

/**
 * y += s (x' A^T) B^T beside a weight matrix (LoRA: Hu et al. 2021, eq. 3), x' = dropout(x), A [r,in], B [out,r]; for experts one A and B
 * each. Backward, with dy for the part's columns: du = s dy B, dB += s dy^T u, dA += du^T x', dx' = du A.
 * docs/gradients/lora.md
 */
export class LowRankAdapter {
  readonly name: string;
  readonly at: number;
  readonly a: Matrix;
  readonly b: Matrix;
  readonly scale: number;
  readonly #index: number;
  readonly #kernels: Kernels;

  constructor(
    private readonly store: ParameterStore,
    { name, at, a, b, scale, index }: AdapterPlace,
    private readonly dropout: Dropout,
  ) {
    this.name = name;
    this.at = at;
    this.a = a;
    this.b = b;
    this.scale = scale;
    this.#index = index;
    this.#kernels = store.kernels;
  }

  forwardAt(s: AdapterSlots, x: MatrixView, y: MatrixView, alpha: number, groups: IndexView | null): void {
    const { a, b, scale } = this;
    const kernels = this.#kernels;
    const out = this.#part(y);
    const input = this.#input(s, x);
    if (input === s.kept) dropped(this.dropout, this.#index, x, input);
    if (groups === null) {
      a.multiply(kernels, input, s.u);
      b.multiply(kernels, s.u, out, alpha * scale, 1);
    } else {
      a.multiplyGroups(kernels, groups, input, s.u);
      b.multiplyGroups(kernels, groups, s.u, out, alpha * scale, 1);
    }
  }

  /** Adds to dx and to the gradients of A and B. */
  backwardAt(
    s: AdapterSlots,
    { du, dKept }: AdapterScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    alpha: number,
    groups: IndexView | null,
  ): void {
    const { a, b, scale, store } = this;
    const kernels = this.#kernels;
    const { gradBeta } = store;
    const upstream = this.#part(dy);
    const input = this.#input(s, x);
    const isDropped = input === s.kept;
    const dInput = isDropped ? dKept! : dx;
    const beta = isDropped ? 0 : 1;
    if (groups === null) {
      b.multiplyBack(kernels, upstream, du, alpha * scale);
      b.addGradient(kernels, upstream, s.u, gradBeta, alpha * scale);
      a.addGradient(kernels, du, input, gradBeta);
      a.multiplyBack(kernels, du, dInput, 1, beta);
    } else {
      b.multiplyGroupsBack(kernels, groups, upstream, du, alpha * scale);
      b.addGroupGradients(kernels, groups, upstream, s.u, gradBeta, alpha * scale);
      a.addGroupGradients(kernels, groups, du, input, gradBeta);
      a.multiplyGroupsBack(kernels, groups, du, dInput, 1, beta);
    }
    if (isDropped) droppedBack(this.dropout, this.#index, dInput, dx);
  }

  /** W += s B A, for each matrix. */
  addTo(matrix: Matrix): void {
    const { a, b, at, scale } = this;
    for (let i = 0; i < matrix.count; i++) {
      const rows = matrix.values.slice(i * matrix.rows + at, b.rows);
      const left = b.values.slice(i * b.rows, b.rows);
      matmul(this.#kernels, left, a.values.slice(i * a.rows, a.rows), rows, scale, 1);
    }
  }

  /** The columns of y that it adds to. */
  #part(y: MatrixView): MatrixView {
    return this.b.rows === y.cols ? y : y.columns(this.at, this.b.rows);
  }

  #input({ kept }: AdapterSlots, x: MatrixView): MatrixView {
    return kept !== null && this.dropout.isOn ? kept : x;
  }
}
