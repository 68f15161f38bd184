/** The program of `worker.ts` with all that it requires, as one text. scripts/build-ts.js puts it in place of this. */
export function workerProgram(): string {
  throw new Error('the engine runs from dist/: npm run build:ts');
}
