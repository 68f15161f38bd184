import type { MatrixView } from '../memory/matrixView';
import { addRows, gatherRows } from '../memory/operations/mixture';
import { clear } from '../memory/operations/rows';
import { type AssembledParts, trainedStore } from './assemble';
import { blockOf, type LossBlock } from './lossPlan';
import type { ModelPass } from './pass';

/**
 * Computes the losses of a block's logits [R,V] into `losses` [R] and returns their sum; in a backward it replaces the logits
 * by their gradient. The block's tokens are those from element `first` of the pass's `counted` on.
 */
export type BlockLoss = (block: LossBlock, first: number) => number;

/**
 * Final norm, lm_head and loss for the tokens whose targets count, in blocks of rows: of chats often few tokens count, and where V
 * is large, logits [T,V] would be most of a step's memory. A backward computes a block's gradients while its logits are there.
 * The blocks follow from the sizes alone.
 */
export class LossHead {
  constructor(private readonly parts: AssembledParts) {}

  /** Lists the tokens whose targets count; where none does the first token, whose gradient is 0. */
  list({ loss, tokens }: ModelPass, ignoreIndex: number): void {
    const { targets, counted } = loss!;
    let count = 0;
    for (let t = 0; t < tokens; t++) {
      if (targets.data[targets.at + t] !== ignoreIndex) counted.data[counted.at + count++] = t;
    }
    if (count === 0 && tokens > 0) counted.data[counted.at + count++] = 0;
    loss!.count = count;
  }

  /** The sum of the blocks' losses. */
  forward(pass: ModelPass, blockLoss: BlockLoss): number {
    let sum = 0;
    for (let first = 0; first < pass.loss!.count; ) {
      const block = this.#block(pass, first);
      this.#logits(pass, first, block);
      sum += blockLoss(block, first);
      first += block.logits.rows;
    }
    return sum;
  }

  /** The same, with the gradients of norm, lm_head, and the last block's output (pass.backward.dX). */
  backward(pass: ModelPass, blockLoss: BlockLoss): number {
    const trained = trainedStore(this.parts);
    const { gradBeta } = trained;
    const { count } = pass.loss!;
    if (count < pass.tokens) clear(pass.backward!.dX);
    let sum = 0;
    for (let first = 0; first < count; ) {
      const block = this.#block(pass, first);
      this.#logits(pass, first, block);
      sum += blockLoss(block, first);
      this.#gradients(pass, first, block);
      // Gradients may be overwritten by the first block alone.
      trained.gradBeta = 1;
      first += block.logits.rows;
    }
    trained.gradBeta = gradBeta;
    return sum;
  }

  /** The block that begins with counted token `first`; all of a pass have about the same number of rows. */
  #block({ loss }: ModelPass, first: number): LossBlock {
    const { count, most } = loss!;
    const rows = Math.ceil(count / Math.ceil(count / most));
    return blockOf(this.parts, loss!, Math.min(rows, count - first));
  }

  #logits(pass: ModelPass, first: number, block: LossBlock): void {
    const { norm, lmHead, store } = this.parts;
    const { targets, counted } = pass.loss!;
    for (let i = 0; i < block.targets.rows; i++) {
      const token = counted.data[counted.at + first + i];
      block.targets.data[block.targets.at + i] = targets.data[targets.at + token];
    }
    norm.forwardAt(block.norm, this.#input(pass, first, block), block.normOut);
    lmHead.forwardAt(block.lmHead, block.normOut, block.logits, false);
    store.requireUnchanged();
  }

  /** The rows [R,H] of the last block's output; gathers them unless they are consecutive. */
  #input({ residual, loss, tokens }: ModelPass, first: number, { gathered }: LossBlock): MatrixView {
    const x = residual[residual.length - 1];
    const { counted, count } = loss!;
    if (count === tokens) return rowsOf(x, first, gathered.rows);
    gatherRows(this.parts.store.kernels, x, counted.slice(first, gathered.rows), gathered);
    return gathered;
  }

  #gradients({ residual, loss, tokens, backward }: ModelPass, first: number, block: LossBlock): void {
    const { norm, lmHead, store } = this.parts;
    const { gathered, normOut, logits } = block;
    const { dNorm, lmHead: scratch } = block.backward!;
    const { dX } = backward!;
    lmHead.backwardAt(block.lmHead, scratch, normOut, logits, dNorm, false);
    if (loss!.count === tokens) {
      const x = rowsOf(residual[residual.length - 1], first, logits.rows);
      norm.backwardAt(block.norm, undefined, x, dNorm, rowsOf(dX, first, logits.rows), false);
      return;
    }
    norm.backwardAt(block.norm, undefined, gathered, dNorm, normOut, false);
    // The tokens differ, so that adding to zeros puts the rows in their places.
    addRows(store.kernels, normOut, loss!.counted.slice(first, normOut.rows), dX);
  }
}

function rowsOf(x: MatrixView, first: number, count: number): MatrixView {
  return count === x.rows ? x : x.slice(first, count);
}
