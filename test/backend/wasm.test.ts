import { loadWasmKernels } from '../../src/backend/wasm';
import { WITHOUT_WASM } from './child';
import { conformance } from './conformance';

conformance('WebAssembly', () => loadWasmKernels({ instructionSet: 'simd128' }), { skip: WITHOUT_WASM });
