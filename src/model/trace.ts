import { elementsOf, type MatrixView } from '../memory/matrixView';
import { Tensor } from '../tensor/tensor';
import type { TransformerBlock } from './block';
import type { Trace } from './options';
import type { ModelPass } from './pass';

/** Copies of what a pass that keeps its activations has computed. @param logits its logits. */
export function traceOf(
  blocks: readonly TransformerBlock[],
  pass: ModelPass,
  logits: Tensor<'float32'>,
): Trace {
  const { batch, seq } = pass;
  const read = (view: MatrixView) => new Tensor(elementsOf(view), [batch, seq, view.cols], logits.dtype);
  return {
    embedding: read(pass.residual[0]),
    hidden: pass.residual.slice(1).map(read),
    norm: read(pass.head!.normOut),
    logits,
    routing: blocks.map(({ moe }, i) => {
      const { routing } = pass.blocks[i];
      return routing && moe!.router.readRouting(routing);
    }),
  };
}
