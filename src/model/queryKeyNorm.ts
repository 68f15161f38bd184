import type { Kernels } from '../backend/kernels';
import type { ParameterStore } from '../memory/parameters';
import type { Weight } from '../memory/weight';
import type { Planner, Workspace } from '../memory/workspace';

export interface QueryKeyNormDims {
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  /** Added to the mean square. Default 1e-6. */
  rmsNormEps?: number;
}

/** The queries or the keys in a row of q|k|v: `count` pieces of `size` numbers from `start` on, each normed by itself. */
interface Pieces {
  start: number;
  count: number;
  size: number;
  gain: Weight;
}

/**
 * RMSNorm of queries and keys between projection and rotation (Henry et al. 2020, with RMSNorm): gain * z / rms(z).
 * 'head' takes the mean square over the D numbers of a head, with one gain [D] for all heads; 'full' over all heads of a
 * token at once, with gains [nHeads D] and [nKvHeads D]. Parameters: q_norm, k_norm.
 * Backward: docs/gradients/rms-norm.md#queries-and-keys
 */
export class QueryKeyNorm {
  /** Numbers of q and k of a token: the width of the output. */
  readonly width: number;
  readonly #pieces: readonly Pieces[];
  readonly #eps: number;

  constructor(
    kind: 'head' | 'full',
    dims: QueryKeyNormDims,
    private readonly store: ParameterStore,
    prefix: string,
  ) {
    const { nHeads, nKvHeads, headDim: D } = dims;
    const pieces = (name: string, start: number, heads: number): Pieces => {
      const count = kind === 'head' ? heads : 1;
      const size = (heads / count) * D;
      const gain = store.addWeight(size, { kind: 'ones' }, 'norm');
      store.expose(`${prefix}${name}.weight`, [size], gain);
      return { start, count, size, gain };
    };
    this.#pieces = [pieces('q_norm', 0, nHeads), pieces('k_norm', nHeads * D, nKvHeads)];
    this.#eps = dims.rmsNormEps ?? 1e-6;
    this.width = (nHeads + nKvHeads) * D;
  }

  /** Room for the 1/rms of every piece of `tokens` tokens. */
  plan(planner: Planner, tokens: number): number {
    const [queries, keys] = this.#pieces;
    return planner.floats(tokens * (queries.count + keys.count));
  }

  /** q|k at y [tokens,width] from q|k at z, rows ldz apart. */
  forwardAt(k: Kernels, ws: Workspace, invRms: number, z: number, ldz: number, y: number, tokens: number): void {
    const f = ws.floats;
    let rms = invRms;
    for (const { start, count, size, gain } of this.#pieces) {
      const { calls, rows, zStep, ldZ, yStep, ldY } = this.#cut(count, size, tokens, ldz);
      for (let i = 0; i < calls; i++, rms += rows) {
        const from = z + start + i * zStep;
        const to = y + start + i * yStep;
        k.rmsNormForward(f, from, ldZ, gain.data, 0, f, to, ldY, f, rms, rows, size, this.#eps);
      }
    }
  }

  /** dz (rows ldz apart, as z) from dy [tokens,width], and the gains' gradients. */
  backwardAt(
    k: Kernels, ws: Workspace, invRms: number, z: number, ldz: number, dy: number, dz: number, tokens: number,
  ): void {
    const f = ws.floats;
    let rms = invRms;
    for (const { start, count, size, gain } of this.#pieces) {
      if (this.store.gradBeta === 0) gain.grad!.fill(0);
      const { calls, rows, zStep, ldZ, yStep, ldY } = this.#cut(count, size, tokens, ldz);
      for (let i = 0; i < calls; i++, rms += rows) {
        const at = start + i * zStep;
        k.rmsNormBackward(
          f, z + at, ldZ, gain.data, 0, f, rms, f, dy + start + i * yStep, ldY, f, dz + at, ldZ, false,
          gain.grad!, 0, rows, size,
        );
      }
    }
  }

  /** A kernel call norms one head of all tokens, or all heads of one token: whichever needs fewer calls. */
  #cut(count: number, size: number, tokens: number, ldz: number) {
    const { width } = this;
    return count <= tokens
      ? { calls: count, rows: tokens, zStep: size, ldZ: ldz, yStep: size, ldY: width }
      : { calls: tokens, rows: count, zStep: ldz, ldZ: size, yStep: width, ldY: size };
  }
}
