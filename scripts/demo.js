'use strict';
/**
 * npm run demo [-- --quick]
 *
 * Trains a small Mixture-of-Experts transformer on this project's own sources and docs, byte by byte, and checks that
 * it predicts held-out files better than a bigram model counted on the same text can: for that it must look back
 * further than one byte, so its attention must work. Then it saves the model, loads it again and lets it write.
 *
 * --quick makes a few steps of a tiny model, in seconds on any backend, through the same code; the loss must fall.
 * Exit code 1 when the goal is not reached.
 */
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const QUICK = process.argv.includes('--quick');
const OUT = path.join('runs', QUICK ? 'demo-quick' : 'demo');

if (!fs.existsSync(path.join(ROOT, 'dist', 'index.js'))) {
  console.error('demo: dist/ is missing; npm ci makes it, and so does npm run build:ts.');
  process.exit(1);
}

const {
  backendInfo,
  bigramConditionalEntropy,
  evaluate,
  Lcg64,
  ModelConfig,
  MoETransformer,
  TemperatureSampling,
  TextDataset,
  Trainer,
  TrainingRun,
} = require('../dist');

const SOURCES = ['src', 'native', 'docs', 'scripts', 'bench', 'test'];
const ENDINGS = ['.ts', '.js', '.cc', '.h', '.md'];
const QUICK_BYTES = 60_000;
/** Batches of an evaluation during the run. */
const EVAL_BATCHES = 10;
const SEED = 42;

/** Sizes and steps for a backend at BLAS speed, for the reference backend (many times slower), and for --quick. */
const RECIPES = {
  native: {
    model: { hiddenDim: 96, nLayers: 3, nHeads: 4, nKvHeads: 2, headDim: 24, ffnDim: 96, maxSeqLen: 128 },
    batchSize: 16,
    steps: 1000,
    lr: 4e-3,
    evalInterval: 100,
  },
  reference: {
    model: { hiddenDim: 64, nLayers: 2, nHeads: 4, nKvHeads: 2, headDim: 16, ffnDim: 64, maxSeqLen: 64 },
    batchSize: 8,
    steps: 600,
    lr: 5e-3,
    evalInterval: 100,
  },
  quick: {
    model: { hiddenDim: 32, nLayers: 2, nHeads: 2, nKvHeads: 1, headDim: 16, ffnDim: 32, maxSeqLen: 64 },
    batchSize: 4,
    steps: 60,
    lr: 8e-3,
    evalInterval: 20,
  },
};

const EXIT = { ok: 0, failure: 1, interrupted: 130 };

main().then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error) => {
    console.error(`demo: ${error.message}`);
    process.exitCode = EXIT.failure;
  },
);

async function main() {
  process.chdir(ROOT);
  const recipe = RECIPES[QUICK ? 'quick' : backendInfo().backend === 'reference' ? 'reference' : 'native'];
  if (recipe === RECIPES.reference) {
    say(
      'The reference backend computes, so a smaller model learns for some minutes; the warning tells how to get',
    );
    say('the native one. --quick takes seconds.\n');
  }
  const dataset = await readSources();
  const config = new ModelConfig({ nExperts: 4, topKExperts: 2, vocabSize: 256, ...recipe.model });
  const model = MoETransformer.create(config, { seed: SEED });
  const bigram = bigramConditionalEntropy(dataset.train, dataset.validation, config.vocabSize);
  describe(dataset, config);
  const untrained = evaluate(model, firstBatches(dataset, recipe));
  const result = await train(model, dataset, recipe, bigram);
  if (result.interrupted) return EXIT.interrupted;
  const reached = judge(result.validation.loss, untrained.loss, bigram);
  const same = await reload(model, dataset);
  return reached && same ? EXIT.ok : EXIT.failure;
}

/** The project's text files in a random but fixed order, so that the held-out end has some of every kind. */
async function readSources() {
  const found = SOURCES.filter((folder) => fs.existsSync(folder)).flatMap((folder) =>
    fs.readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)),
  );
  const isText = (file) => ENDINGS.some((ending) => file.endsWith(ending)) && !file.includes('fixtures');
  const files = [...found, ...fs.readdirSync('.')].filter(isText).sort();
  shuffle(files);
  return TextDataset.fromPaths(QUICK ? firstBytes(files, QUICK_BYTES) : files);
}

function shuffle(items) {
  const random = new Lcg64(SEED);
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.nextInt(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}

function firstBytes(files, bytes) {
  let sum = 0;
  return files.filter((file) => {
    sum += fs.statSync(file).size;
    return sum <= bytes;
  });
}

function firstBatches(dataset, { batchSize, model }) {
  return dataset.validationBatches({ batchSize, seqLen: model.maxSeqLen, maxBatches: EVAL_BATCHES });
}

function describe({ trainTokens, validationTokens, files }, config) {
  const { backend, instructionSet, threads } = backendInfo();
  say(
    `Data:    ${count(trainTokens)} bytes to train on, ${count(validationTokens)} to validate (${files.length} files)`,
  );
  say(`Model:   ${count(config.totalParams())} parameters, ${count(config.activeParams())} used by a token`);
  say(`Backend: ${backend}, ${instructionSet}, ${threads} threads`);
  say(`Run:     ${OUT}\n`);
}

function count(value) {
  return value.toLocaleString('en-US');
}

/** Ctrl-C finishes the step and saves. */
async function train(model, dataset, recipe, bigram) {
  const { steps, lr, batchSize, evalInterval } = recipe;
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => stop.abort());
  const run = await TrainingRun.start(OUT, {
    trainer: new Trainer(model, { lr, warmupSteps: steps / 10, totalSteps: steps }),
    dataset,
    overwrite: true,
    batchSize,
    seqLen: model.config.maxSeqLen,
    seed: SEED,
    evalInterval,
    evalBatches: EVAL_BATCHES,
    references: [{ label: 'bigram', loss: bigram }],
    signal: stop.signal,
  });
  for await (const event of run) tell(event, steps);
  const { result } = run;
  say(
    `\n${result.steps} steps in ${Math.round(result.seconds)} s, ${count(Math.round(result.tokensPerSec))} bytes/s.`,
  );
  say(`Saved to ${OUT}; the curves are in ${path.join(OUT, 'curve.svg')}.\n`);
  return result;
}

function tell(event, steps) {
  if (event.type === 'evaluation') say(`step ${event.step}/${steps}  validation ${event.loss.toFixed(3)}`);
  if (event.type === 'saveFailed') say(`NOT SAVED: ${event.error.message}`);
}

function judge(loss, untrainedLoss, bigram) {
  say('Nats per byte of the validation split, lower is better:');
  say(`  this model before training    ${untrainedLoss.toFixed(3)}`);
  say(`  a bigram model of the text    ${bigram.toFixed(3)}`);
  say(`  this model                    ${loss.toFixed(3)}`);
  if (QUICK) {
    const fell = loss < untrainedLoss - 1;
    say(fell ? 'PASSED: the loss fell.\n' : 'FAILED: the loss did not fall by 1 nat.\n');
    return fell;
  }
  const below = loss < bigram;
  say(
    below
      ? 'PASSED: it is below the bigram model, so it makes use of more than the byte before.\n'
      : 'FAILED: it is not below the bigram model.\n',
  );
  return below;
}

/** Loads the saved model, checks that it computes the same, and lets it write a sample. */
async function reload(model, dataset) {
  const loaded = await MoETransformer.load(OUT);
  const prompt = Array.from(dataset.validation.subarray(0, 48));
  const expected = model.forwardIds(prompt, 1, prompt.length).data;
  const actual = loaded.forwardIds(prompt, 1, prompt.length).data;
  const same = expected.every((value, i) => value === actual[i]);
  say(same ? `Loaded again from ${OUT}: the same logits, bit by bit.` : 'FAILED: the loaded model differs.');
  say('It writes:\n');
  const length = prompt.length + (QUICK ? 80 : 400);
  const sampling = new TemperatureSampling(0.8, { seed: SEED });
  const ids = loaded.generate(prompt, length, sampling, { slidingWindow: true });
  say(dataset.tokenizer.decode(ids));
  say(`\nLet it write more:  node dist/cli/main.js generate ${OUT} --prompt "..."`);
  return same;
}

function say(line) {
  console.log(line);
}
