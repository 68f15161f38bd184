import { resolve } from 'node:path';

/**
 * The built package, as users have it, with the types of the sources: workers load compiled files. Its classes are others
 * than those of src/.
 */
export const built: typeof import('../../src') = require(resolve(__dirname, '../../dist'));
export const builtAi: typeof import('../../src/ai') = require(resolve(__dirname, '../../dist/ai.js'));
