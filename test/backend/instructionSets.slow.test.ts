import { conformance } from './conformance';
import { INSTRUCTION_SETS, tryLoad } from './tryLoad';

// The best one is tested by native.test.ts.
const best = tryLoad({ backend: 'builtin' })?.info.instructionSet;

for (const instructionSet of INSTRUCTION_SETS.filter((name) => name !== best)) {
  const kernels = tryLoad({ backend: 'builtin', instructionSet });
  conformance(`built-in, ${instructionSet}`, () => kernels!, { skip: kernels === null });
}
