import { describe, it } from 'vitest';
import type { Kernels } from '../../../src/backend/kernels';
import { bound, everywhere, expectClose, expectSame, flat } from './harness';

export function rowsByIndexConformance(kernels: () => Kernels): void {
  describe('rows by index', () => {
    const COLS = [0, 1, 3, 15, 16, 17, 33];

    it('gatherRows copies the rows asked for, bit for bit', () => {
      for (const cols of COLS) {
        for (const rows of [0, 1, 2, 9]) {
          everywhere(cols + rows, (scene, dice) => {
            const table = dice.values(6 * cols);
            if (cols > 1) table.set([Number.NaN, -0], 4 * cols);
            const src = scene.floats('src', table),
              ids = dice.ints(rows, 6);
            if (rows > 2) ids.set([5, 0, 4]);
            const indices = scene.ints('indices', ids);
            const dst = scene.floats('dst', new Float64Array(rows * cols).fill(9));
            kernels().gatherRows(
              src.array,
              src.at,
              6,
              indices.array,
              indices.at,
              dst.array,
              dst.at,
              rows,
              cols,
            );
            const want = Float64Array.from(
              flat(rows * cols),
              (i) => table[ids[Math.floor(i / cols)] * cols + (i % cols)],
            );
            expectSame(`gatherRows [${rows},${cols}]`, dst.read(), want);
            scene.expectOnlyWritten('gatherRows', dst);
          });
        }
      }
    });

    for (const weighted of [true, false]) {
      it(`scatterAddRows adds ${weighted ? 'weighted' : 'plain'} rows to each token`, () => {
        for (const cols of COLS) {
          for (const [tokens, topK] of [
            [0, 2],
            [1, 0],
            [1, 1],
            [3, 2],
            [9, 3],
          ]) {
            everywhere(cols + tokens, (scene, dice) => {
              const xRows = tokens * topK + 2;
              const x = scene.floats('x', dice.values(xRows * cols));
              const choices = dice.ints(tokens * topK, xRows);
              const slots = scene.ints('slots', choices);
              const weights = scene.floats('weights', dice.values(tokens * topK));
              const y = scene.floats('y', dice.values(tokens * cols));
              const [xv, w, want] = [x.read(), weights.read(), y.read()];
              const size = want.map(Math.abs);
              for (const [a, slot] of choices.entries()) {
                for (let c = 0; c < cols; c++) {
                  const term = (weighted ? w[a] : 1) * xv[slot * cols + c];
                  want[Math.floor(a / topK) * cols + c] += term;
                  size[Math.floor(a / topK) * cols + c] += Math.abs(term);
                }
              }
              kernels().scatterAddRows(
                x.array,
                x.at,
                xRows,
                slots.array,
                slots.at,
                weighted ? weights.array : null,
                weighted ? weights.at : 0,
                y.array,
                y.at,
                tokens,
                topK,
                cols,
              );
              expectClose(
                `scatterAddRows [${tokens},${topK},${cols}]`,
                y.read(),
                want,
                size.map((m) => bound(topK, m)),
              );
              scene.expectOnlyWritten('scatterAddRows', y);
            });
          }
        }
      });
    }

    it('scatterAddRowsBackward writes the rows of used slots and the weights, over x too', () => {
      for (const cols of COLS.slice(1)) {
        for (const [tokens, topK] of [
          [0, 2],
          [1, 0],
          [1, 1],
          [3, 2],
          [9, 3],
        ]) {
          everywhere(cols + tokens, (scene, dice) => {
            const xRows = tokens * topK + 2;
            const choices = dice.permutation(xRows).slice(0, tokens * topK);
            const dy = scene.floats('dy', dice.values(tokens * cols));
            const x = scene.floats('x', dice.values(xRows * cols));
            const slots = scene.ints('slots', choices);
            const weights = scene.floats('weights', dice.values(tokens * topK));
            const dx = scene.floats('dx', new Float64Array(xRows * cols).fill(5));
            const dWeights = scene.output('dWeights', tokens * topK);
            const [d, xv, w] = [dy.read(), x.read(), weights.read()];
            const want = new Float64Array(xRows * cols).fill(5),
              wantInPlace = x.read();
            const wantWeights = new Float64Array(tokens * topK),
              size = wantWeights.slice();
            for (const [a, slot] of choices.entries()) {
              for (let c = 0; c < cols; c++) {
                const upstream = d[Math.floor(a / topK) * cols + c];
                want[slot * cols + c] = w[a] * upstream;
                wantInPlace[slot * cols + c] = w[a] * upstream;
                wantWeights[a] += upstream * xv[slot * cols + c];
                size[a] += Math.abs(upstream * xv[slot * cols + c]);
              }
            }
            const call = (out: typeof dx): void =>
              kernels().scatterAddRowsBackward(
                dy.array,
                dy.at,
                x.array,
                x.at,
                xRows,
                slots.array,
                slots.at,
                weights.array,
                weights.at,
                out.array,
                out.at,
                dWeights.array,
                dWeights.at,
                tokens,
                topK,
                cols,
              );
            const label = `scatterAddRowsBackward [${tokens},${topK},${cols}]`;
            call(dx);
            expectClose(
              label,
              dx.read(),
              want,
              want.map((v) => bound(1, Math.abs(v))),
            );
            expectClose(
              label,
              dWeights.read(),
              wantWeights,
              size.map((m) => bound(cols, m)),
            );
            scene.expectOnlyWritten(label, dx, dWeights);
            call(x);
            expectClose(
              `${label} in place`,
              x.read(),
              wantInPlace,
              wantInPlace.map((v) => bound(1, Math.abs(v))),
            );
            expectClose(
              `${label} in place`,
              dWeights.read(),
              wantWeights,
              size.map((m) => bound(cols, m)),
            );
          });
        }
      }
    });

    it('embeddingBackward adds up repeated ids', () => {
      for (const cols of COLS) {
        for (const tokens of [0, 1, 2, 40]) {
          everywhere(cols + tokens, (scene, dice) => {
            const vocab = 5;
            const chosen = dice.ints(tokens, vocab - 1); // the last one stays unused
            const dy = scene.floats('dy', dice.values(tokens * cols)),
              ids = scene.ints('ids', chosen);
            const dTable = scene.floats('dTable', dice.values(vocab * cols));
            const d = dy.read(),
              want = dTable.read(),
              size = want.map(Math.abs);
            for (const [t, id] of chosen.entries()) {
              for (let c = 0; c < cols; c++) {
                want[id * cols + c] += d[t * cols + c];
                size[id * cols + c] += Math.abs(d[t * cols + c]);
              }
            }
            kernels().embeddingBackward(
              dy.array,
              dy.at,
              ids.array,
              ids.at,
              dTable.array,
              dTable.at,
              vocab,
              tokens,
              cols,
            );
            expectClose(
              `embeddingBackward [${tokens},${cols}]`,
              dTable.read(),
              want,
              size.map((m) => bound(tokens, m)),
            );
            scene.expectOnlyWritten('embeddingBackward', dTable);
          });
        }
      }
    });
  });
}
