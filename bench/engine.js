'use strict';
/**
 * Measures an engine under load, as a service sees it. Prints as Markdown how late a 10 ms timer of the service's thread fires
 * while N streams are read, with tokens/s and times to the first token; then the memory over many requests, some of them aborted.
 *
 *   node bench/engine.js
 */
const { setTimeout: sleep } = require('node:timers/promises');
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { LOADED } = require('./lib/loadedModel');
const { quantile, sort } = require('./lib/stats');

const STREAMS = [0, 1, 8, 64];
const TIMER_MS = 10;
const SOAK_AT_ONCE = 32;

/** The model of the soak, which tests requests, not computing. */
const TINY = { ...LOADED, hiddenDim: 64, nLayers: 2, nHeads: 2, nKvHeads: 1, headDim: 32, ffnDim: 64 };

start(async () => {
  const program = command('engine.js', 'Measures an engine: event loop delay, tokens/s, memory.')
    .option('--seconds <n>', 'seconds for each number of streams', integer(1, 60), 4)
    .option('--soak <n>', 'requests of the soak, 0 for none', integer(0, 10_000_000), 10_000);
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  process.stdout.write(
    '| Streams | Tokens/s | First token p50 / p95 (ms) | 10 ms timer late p50 / p99 / max (ms) |\n',
  );
  process.stdout.write('|---|---|---|---|\n');
  for (const streams of STREAMS) process.stdout.write(await load(streams, options.seconds));
  if (options.soak > 0) process.stdout.write(await soak(options.soak));
});

async function openEngine(config, options) {
  const { ByteTokenizer, Engine, MoETransformer } = require('..');
  return Engine.create(MoETransformer.create(config), new ByteTokenizer(), options);
}

/** Keeps `streams` readers busy for some seconds; each reads one stream after the other. */
async function load(streams, seconds) {
  const engine = await openEngine(LOADED, { maxBatch: 64 });
  const end = performance.now() + seconds * 1000;
  let tokens = 0;
  const firsts = [];
  const read = async (i) => {
    for (let round = 0; performance.now() < end; round++) {
      const started = performance.now();
      let isFirst = true;
      const prompt = `${i} ${round} `.padEnd(100, 'a prompt ');
      for await (const chunk of engine.stream({ prompt, maxTokens: 100, seed: i })) {
        if (isFirst) firsts.push(performance.now() - started);
        isFirst = false;
        tokens += chunk.tokens.length;
        if (performance.now() > end) break;
      }
    }
  };
  const [late] = await Promise.all([lateness(end), ...Array.from({ length: streams }, (_, i) => read(i))]);
  await engine.close();
  const ms = (values, ...quantiles) =>
    values.length === 0 ? '' : quantiles.map((q) => quantile(sort(values), q).toFixed(1)).join(' / ');
  return `| ${streams} | ${Math.round(tokens / seconds)} | ${ms(firsts, 0.5, 0.95)} | ${ms(late, 0.5, 0.99, 1)} |\n`;
}

/** How many milliseconds late each of a chain of timers fires. */
async function lateness(end) {
  const late = [];
  while (performance.now() < end) {
    const started = performance.now();
    await sleep(TIMER_MS);
    late.push(performance.now() - started - TIMER_MS);
  }
  return late;
}

/** Makes many requests and aborts every third; notes the resident memory after each tenth of them. */
async function soak(requests) {
  const engine = await openEngine(TINY, { maxBatch: SOAK_AT_ONCE, maxQueue: SOAK_AT_ONCE });
  const memory = [];
  let made = 0;
  const client = async () => {
    while (made < requests) {
      const i = made++;
      if (i % Math.ceil(requests / 10) === 0) memory.push(Math.round(process.memoryUsage.rss() / 2 ** 20));
      const request = { prompt: `request ${i}`, maxTokens: 1 + (i % 40), seed: i };
      if (i % 3 > 0) await engine.generate(request);
      else for await (const _chunk of engine.stream(request)) break;
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: SOAK_AT_ONCE }, client));
  const seconds = (performance.now() - started) / 1000;
  const { requests: counts } = engine.metrics();
  await engine.close();
  return [
    `\n${requests} requests in ${seconds.toFixed(1)} s: ${counts.completed} completed, ${counts.aborted} given up, `,
    `${counts.failed} failed, ${counts.refused} refused; MiB resident on the way: ${memory.join(', ')}.\n`,
  ].join('');
}
