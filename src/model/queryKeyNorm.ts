import type { Kernels } from '../backend/kernels';
import type { MatrixView } from '../memory/matrixView';
import { clear, rmsNorm, rmsNormBackward } from '../memory/operations/rows';
import type { ParameterStore } from '../memory/parameters';
import type { Weight } from '../memory/weight';
import type { Planner } from '../memory/workspace';

export interface QueryKeyNormDims {
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  /** Added to the mean square. Default 1e-6. */
  rmsNormEps?: number | undefined;
}

/** Queries and keys [T, nHeads D] and [T, nKvHeads D], parts of one matrix. */
export interface QueriesAndKeys {
  q: MatrixView;
  k: MatrixView;
}

export interface QueryKeyNormSlots {
  /** [T pieces] 1/rms of the queries, followed by that of the keys */
  q: MatrixView;
  k: MatrixView;
}

/**
 * RMSNorm of queries and keys between projection and rotation (Henry et al. 2020, with RMSNorm): gain * z / rms(z).
 * 'head' takes the mean square over the D numbers of a head, with one gain [D] for all heads; 'full' over all heads of a
 * token at once, with gains [nHeads D] and [nKvHeads D]. Parameters: q_norm, k_norm.
 * Backward: docs/gradients/rms-norm.md#queries-and-keys
 */
export class QueryKeyNorm {
  /** Width of the output, nHeads D + nKvHeads D. */
  readonly width: number;
  readonly #q: Weight;
  readonly #k: Weight;
  /** Number of separately normed pieces of a row of queries, followed by that of keys. */
  readonly #qPieces: number;
  readonly #kPieces: number;
  readonly #eps: number;

  constructor(
    kind: 'head' | 'full',
    dims: QueryKeyNormDims,
    private readonly store: ParameterStore,
    prefix: string,
  ) {
    const { nHeads, nKvHeads, headDim: D } = dims;
    const gainOf = (name: string, size: number): Weight => {
      const gain = store.addWeight(size, { kind: 'ones' }, 'norm');
      store.expose(`${prefix}${name}.weight`, [size], gain);
      return gain;
    };
    this.#q = gainOf('q_norm', kind === 'head' ? D : nHeads * D);
    this.#k = gainOf('k_norm', kind === 'head' ? D : nKvHeads * D);
    this.#qPieces = kind === 'head' ? nHeads : 1;
    this.#kPieces = kind === 'head' ? nKvHeads : 1;
    this.#eps = dims.rmsNormEps ?? 1e-6;
    this.width = (nHeads + nKvHeads) * D;
  }

  plan(planner: Planner, tokens: number): QueryKeyNormSlots {
    return { q: planner.floats(tokens, this.#qPieces), k: planner.floats(tokens, this.#kPieces) };
  }

  /** Computes y from z. */
  forwardAt(kernels: Kernels, invRms: QueryKeyNormSlots, z: QueriesAndKeys, y: QueriesAndKeys): void {
    rmsNorm(kernels, z.q, this.#q.values, y.q, invRms.q, this.#eps);
    rmsNorm(kernels, z.k, this.#k.values, y.k, invRms.k, this.#eps);
  }

  /** Computes dz from dy, and the gains' gradients. */
  backwardAt(
    kernels: Kernels,
    invRms: QueryKeyNormSlots,
    z: QueriesAndKeys,
    dy: QueriesAndKeys,
    dz: QueriesAndKeys,
  ): void {
    if (this.store.gradBeta === 0) {
      clear(this.#q.gradient);
      clear(this.#k.gradient);
    }
    rmsNormBackward(kernels, z.q, this.#q, invRms.q, dy.q, dz.q, false);
    rmsNormBackward(kernels, z.k, this.#k, invRms.k, dy.k, dz.k, false);
  }
}
