import type { IndexView, MatrixView } from '../memory/matrixView';
import { matmulTransB } from '../memory/operations/matmul';
import { embeddingBackward } from '../memory/operations/mixture';
import { clearShared } from '../memory/operations/rows';
import type { ParameterStore } from '../memory/parameters';
import type { Matrix, Table } from '../memory/weight';

/**
 * y[t] += s A[:,ids[t]]^T B^T beside an embedding table (LoRA: Hu et al. 2021, as Python's `peft` applies it to embeddings), B [H,r]; A [r,V]
 * is kept transposed, so that a token reads one row. Without dropout, as there. Backward: du = s dy B, dB += s dy^T u,
 * dA[:,ids[t]] += du[t]; repeated ids add up. docs/gradients/lora.md
 */
export class EmbeddingAdapter {
  constructor(
    private readonly store: ParameterStore,
    /** The module's: 'model.embed_tokens'. */
    readonly name: string,
    /** [V,r] A^T */
    readonly a: Matrix,
    /** [H,r] */
    readonly b: Matrix,
    /** s, as in LowRankAdapter */
    readonly scale: number,
  ) {}

  /** Adds to y [T,H]; u [T,r] gets the rows of A^T. */
  forwardAt(ids: IndexView, u: MatrixView, y: MatrixView): void {
    const { kernels } = this.store;
    this.a.gather(kernels, ids, u);
    this.b.multiply(kernels, u, y, this.scale, 1);
  }

  /** Adds to the gradients of A and B, with the u of the forward; du [T,r] is scratch. */
  backwardAt(ids: IndexView, u: MatrixView, du: MatrixView, dy: MatrixView): void {
    const { a, b, scale, store } = this;
    const { kernels, gradBeta } = store;
    b.multiplyBack(kernels, dy, du, scale);
    b.addGradient(kernels, dy, u, gradBeta, scale);
    if (gradBeta === 0) clearShared(kernels, a.gradient);
    embeddingBackward(kernels, du, ids, a.gradient);
  }

  /** W += s A^T B^T */
  addTo({ values }: Table): void {
    matmulTransB(this.store.kernels, this.a.values, this.b.values, values, this.scale, 1);
  }
}
