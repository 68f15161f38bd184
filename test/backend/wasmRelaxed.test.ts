import { setFlagsFromString } from 'node:v8';
import { loadWasmKernels } from '../../src/backend/wasm';
import { bestInstructionSet } from '../../src/backend/wasm/api';
import { WITHOUT_WASM } from './child';
import { conformance } from './conformance';

// Node 20 has it behind a flag.
if (bestInstructionSet() === 'simd128') setFlagsFromString('--experimental-wasm-relaxed-simd');

conformance("WebAssembly's relaxed SIMD", () => loadWasmKernels({ instructionSet: 'relaxed-simd' }), {
  skip: WITHOUT_WASM,
});
