import { reads, requireApart, writes } from './areas';
import { type Definitions, requireIndices } from './checks';
import { rowMax, shiftedExp } from './rows';
import { Scratch } from './scratch';

const expScratch = new Scratch();

export const loss: Definitions<'crossEntropy'> = {
  crossEntropy: {
    signature: `logits:floats logitsOffset targets:ints targetsOffset losses:floats lossesOffset rows cols
      ignoreIndex:int32 gradScale:real writeGradient:flag`,
    run(
      logits,
      logitsOffset,
      targets,
      targetsOffset,
      losses,
      lossesOffset,
      rows,
      cols,
      ignoreIndex,
      gradScale,
      writeGradient,
    ) {
      (writeGradient ? writes : reads)('crossEntropy', 'logits', logits, logitsOffset, rows * cols);
      reads('crossEntropy', 'targets', targets, targetsOffset, rows);
      writes('crossEntropy', 'losses', losses, lossesOffset, rows);
      requireIndices('crossEntropy', 'targets', targets, targetsOffset, rows, cols, ignoreIndex);
      if (rows === 0 || cols === 0) return 0;
      requireApart('crossEntropy');
      const exps = expScratch.take(cols);
      let total = 0;
      for (let r = 0; r < rows; r++) {
        const row = logitsOffset + r * cols;
        const target = targets[targetsOffset + r];
        if (target === ignoreIndex) {
          losses[lossesOffset + r] = 0;
          if (writeGradient) logits.fill(0, row, row + cols);
          continue;
        }
        const max = rowMax(logits, row, cols);
        const sum = shiftedExp(logits, row, cols, max, exps);
        const rowLoss = max - logits[row + target] + Math.log(sum);
        losses[lossesOffset + r] = rowLoss;
        total += rowLoss;
        if (!writeGradient) continue;
        for (let c = 0; c < cols; c++) logits[row + c] = gradScale * (exps[c] / sum - (c === target ? 1 : 0));
      }
      return total;
    },
  },
};
