/**
 * node check.js <report.json>
 *
 * What every platform must do with the package `sgemoe` that is installed beside this file: the float64 oracle's numbers,
 * a short training, an engine with workers, and what x86-64 computes from mapped files. The report tells each check's fault, null where there is none. It is a file, and
 * this is plain JavaScript for CommonJS, so that it runs wherever a Node does: under an emulator, in wine, in Bun and Deno.
 */
const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const sgemoe = require('sgemoe');

const { backendInfo, ByteTokenizer, Engine, ModelConfig, MoETransformer, SafetensorsFile, Tensor, Trainer } =
  sgemoe;

// Bounds: the table "Tolerances for float32" of test/fixtures/README.md.
const LOGITS = 1e-5;
const LOSS = 2e-6;
const GRADIENT = 5e-5;
const ROUTER_GRADIENT_TOP1 = 2e-4;
const STEP_LOSS = 5e-6;
// The same numbers added up in another order, through two layers: test/model/storedWeights.test.ts.
const ORDER = 2e-5;
// Activations rounded to 8 bits: each product is off by 0.5 % of its size (1/254 of a block's largest number, evenly
// distributed), and fifteen follow one another, so 2 %; the largest of 1,536 numbers by a little more.
const ROUNDED = 5e-2;

const checks = [];
main();

async function main() {
  await check('the addon of this platform computes', () => {
    const { backend, addonPath, platform } = backendInfo();
    equal('backend', backend, process.env.SGEMOE_BACKEND ?? 'builtin');
    if (!addonPath.includes(platform))
      throw new Error(`${addonPath} isn't the prebuilt addon of ${platform}`);
  });
  for (const name of ['micro', 'gqa']) await oracle(join(__dirname, 'fixtures', name), name);
  await check('a short training halves the loss', shortTraining);
  await check('an engine with workers answers as the model does', engineWithWorkers);
  for (const name of ['bf16', 'q4_k_m.gguf'])
    await check(`${name}: mapped weights`, () => mappedWeights(name));
  writeFileSync(process.argv[2], JSON.stringify({ info: backendInfo(), version: process.version, checks }));
}

async function check(name, run) {
  const fault = await Promise.resolve()
    .then(run)
    .then(
      () => null,
      (error) => String(error?.stack ?? error),
    );
  checks.push({ name, fault });
}

async function oracle(folder, name) {
  const json = (file) => JSON.parse(readFileSync(join(folder, file), 'utf8'));
  const model = await MoETransformer.load(folder);
  const stored = await SafetensorsFile.open(join(folder, 'tensors.safetensors'));
  const want = async (key) => Array.from(await stored.read(key), Number);
  const int32 = async (key) =>
    new Tensor(Int32Array.from(await want(key)), stored.tensors.get(key).shape, 'int32');
  const [ids, targets] = [await int32('input_ids'), await int32('targets')];
  const { train_config: given, steps } = json('train.json');
  const { lr, beta1, beta2, eps, weight_decay: weightDecay, clip: gradClip } = given;
  const schedule = { warmupSteps: given.warmup_steps, totalSteps: given.total_steps };
  const trainer = new Trainer(model, { lr, beta1, beta2, eps, weightDecay, gradClip, ...schedule });

  await check(`${name}: logits`, async () =>
    near('logits', model.forward(ids).data, await want('logits'), LOGITS),
  );
  await check(`${name}: greedy decoding`, () => {
    const { prompt, tokens } = json('greedy.json');
    const made = model.generateGreedy(prompt, prompt.length + tokens.length);
    equal('tokens', made.join(), [...prompt, ...tokens].join());
  });
  await check(`${name}: loss and gradients`, async () => {
    near('loss', [trainer.lossAndGradients(ids, targets).loss], await want('loss.total'), LOSS);
    for (const [key, parameter] of model.namedParameters()) {
      const top1 = model.config.topKExperts === 1 && key.endsWith('gate.weight');
      near(key, parameter.grad, await want(`grad.${key}`), top1 ? ROUTER_GRADIENT_TOP1 : GRADIENT);
    }
  });
  await check(`${name}: five training steps`, () => {
    const losses = steps.map(() => trainer.trainStep(ids, targets).loss);
    losses.forEach((loss, i) => {
      near(`loss of step ${i + 1}`, [loss], [steps[i].loss], STEP_LOSS);
    });
  });
  await stored.close();
}

function shortTraining() {
  const model = MoETransformer.tiny({ seed: 1 });
  const trainer = new Trainer(model, { lr: 1e-2, warmupSteps: 0 });
  const ids = Array.from({ length: 4 }, (_, b) =>
    Array.from({ length: 17 }, (_, s) => (b * 131 + s * s * 7) % 1000),
  );
  const inputs = Tensor.fromIds(ids.map((row) => row.slice(0, -1)));
  const targets = Tensor.fromIds(ids.map((row) => row.slice(1)));
  const losses = Array.from({ length: 15 }, () => trainer.trainStep(inputs, targets).loss);
  const last = losses.at(-1);
  if (!(last < losses[0] / 2)) throw new Error(`losses ${losses[0]} to ${last}`);
}

async function engineWithWorkers() {
  const tokenizer = new ByteTokenizer();
  const { vocabSize } = tokenizer;
  const model = MoETransformer.create(ModelConfig.tiny({ vocabSize }), { seed: 2 });
  const engine = await Engine.create(model, tokenizer, { workers: 2 });
  try {
    const request = { prompt: 'abc', maxTokens: 8, temperature: 0 };
    const completions = await Promise.all([engine.generate(request), engine.generate(request)]);
    const prompt = tokenizer.encode('abc');
    const want = model.generateGreedy(prompt, prompt.length + 8).slice(prompt.length);
    for (const { tokens } of completions) equal('tokens', tokens.join(), want.join());
  } finally {
    await engine.close();
  }
}

/** Against what x86-64 computed (.ci/platforms/storedModels.js): logits, and tokens by one model and by an engine's workers. */
async function mappedWeights(name) {
  const folder = join(__dirname, 'stored');
  const { prompt, models } = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));
  const { tokens, logits } = models[name];
  const model = await MoETransformer.load(join(folder, name), { dtype: 'stored' });
  if (!(model.weightBytes.mapped > model.weightBytes.resident))
    throw new Error(`in memory, not mapped: ${JSON.stringify(model.weightBytes)}`);
  const isRounded = name !== 'bf16' && !backendInfo().exactProducts;
  near('logits', model.forwardIds(tokens, 1, tokens.length).data, logits, isRounded ? ROUNDED : ORDER);
  equal('tokens', model.generateGreedy(prompt, tokens.length).join(), tokens.join());
  const engine = await Engine.create(model, null, { workers: 2 });
  try {
    const request = { prompt, maxTokens: tokens.length - prompt.length, temperature: 0 };
    const completions = await Promise.all([engine.generate(request), engine.generate(request)]);
    for (const completion of completions)
      equal("the workers' tokens", [...prompt, ...completion.tokens].join(), tokens.join());
  } finally {
    await engine.close();
  }
}

/** The largest difference, relative to the largest wanted value. */
function near(what, got, want, bound) {
  equal(`length of ${what}`, got.length, want.length);
  let [difference, scale] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    difference = Math.max(difference, Math.abs(got[i] - want[i]));
    scale = Math.max(scale, Math.abs(want[i]));
  }
  if (!(difference <= bound * scale))
    throw new Error(`${what} is off by ${difference / scale}, more than ${bound}`);
}

function equal(what, got, want) {
  if (got !== want) throw new Error(`${what}: ${got} instead of ${want}`);
}
