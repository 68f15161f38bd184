import { tilesConformance } from './conformance/tiles';
import { INSTRUCTION_SETS, tryLoad } from './tryLoad';

// The packing is compiled once per instruction set; tiles.test.ts has the best one.
const best = tryLoad({ backend: 'builtin' })?.info.instructionSet;

for (const instructionSet of INSTRUCTION_SETS.filter((name) => name !== best)) {
  const kernels = tryLoad({ backend: 'builtin', instructionSet, matmul: 'split', tiles: 'model' });
  const plain = tryLoad({ backend: 'builtin', instructionSet, matmul: 'fma' });
  tilesConformance(`the model, ${instructionSet}`, () => kernels!, {
    skip: kernels === null,
    plain: () => plain!,
  });
}
