import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadWasmKernels } from '../../src/backend/wasm';
import { ROOT } from './child';
import { conformance } from './conformance';

/** `npm run build:wasm` makes it; CI has it always. */
const skip = !existsSync(join(ROOT, 'prebuilds', 'wasm', 'kernels.wasm')) && !process.env.CI;

conformance('WebAssembly', () => loadWasmKernels(), { skip });
