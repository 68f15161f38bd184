/**
 * llama.cpp's side of bench/gguf.js: node bench/peers/ggufLlama.mjs <folder with node-llama-cpp> <threads>. The binding adds
 * little: a hop between threads for each token, and its choice of the likeliest token.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const require = createRequire(import.meta.url);
const { CONTEXT, tokensOf } = require('./ggufTokens.js');
const [folder, threadCount] = process.argv.slice(2);
const threads = Number(threadCount);
const root = join(folder, 'node_modules/node-llama-cpp');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const { getLlama } = await import(pathToFileURL(join(root, 'dist/index.js')).href);
const llama = await getLlama({ gpu: false, logLevel: 'disabled', build: 'never', maxThreads: threads });

let run;
let context;
/** @type {{ file: string, model: any }} */
let loaded = { file: '', model: null };

answer({ name: `llama.cpp ${llama.llamaCppRelease.release} by node-llama-cpp`, version });
let queue = Promise.resolve();
createInterface({ input: process.stdin })
  .on('line', (line) => {
    queue = queue.then(async () => {
      try {
        answer(await handle(JSON.parse(line)));
      } catch (error) {
        answer({ error: String(error) });
      }
    });
  })
  .on('close', () => process.exit(0));

async function handle({ op, scenario, warmup, trials }) {
  if (op === 'block') {
    const timings = [];
    for (let i = 0; i < trials; i++) timings.push(await run());
    return { timings_ns: timings };
  }
  run = undefined;
  await context?.dispose();
  context = undefined;
  if (op === 'prepare') run = await prepare(scenario);
  for (let i = 0; run !== undefined && i < warmup; i++) await run();
  return {};
}

async function prepare({ file, work, tokens, sequences }) {
  if (loaded.file !== file) {
    await loaded.model?.dispose();
    loaded = { file, model: await llama.loadModel({ modelPath: file, gpuLayers: 0 }) };
  }
  const contextSize = Math.max(256, work === 'prompt' ? tokens + 8 : CONTEXT + tokens + 8);
  context = await loaded.model.createContext({
    contextSize,
    sequences,
    threads,
    batchSize: Math.max(512, contextSize),
  });
  const all = Array.from({ length: sequences }, () => context.getSequence());
  return work === 'prompt' ? promptRun(all[0], tokens) : decodeRun(all, tokens);
}

function promptRun(sequence, tokens) {
  const prompt = tokensOf(tokens, 0);
  return timed(
    () => sequence.clearHistory(),
    () => sequence.evaluateWithoutGeneratingNewTokens(prompt),
  );
}

async function decodeRun(all, tokens) {
  for (const [i, sequence] of all.entries())
    await sequence.evaluateWithoutGeneratingNewTokens(tokensOf(CONTEXT, i));
  return timed(
    () =>
      Promise.all(
        all.map((sequence) =>
          sequence.nextTokenIndex > CONTEXT
            ? sequence.eraseContextTokenRanges([{ start: CONTEXT, end: sequence.nextTokenIndex }])
            : undefined,
        ),
      ),
    () => Promise.all(all.map((sequence, i) => generate(sequence, tokensOf(1, i), tokens))),
  );
}

async function generate(sequence, first, tokens) {
  let count = 0;
  for await (const _ of sequence.evaluate(first, { temperature: 0, yieldEogToken: true })) {
    if (++count === tokens) break;
  }
}

function timed(before, work) {
  return async () => {
    await before();
    const start = process.hrtime.bigint();
    await work();
    return Number(process.hrtime.bigint() - start);
  };
}

function answer(content) {
  process.stdout.write(`${JSON.stringify(content)}\n`);
}
