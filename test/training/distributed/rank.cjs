/** What every rank of test/training/distributed runs in a thread of its own. Posts what its trainer has in the end. */
const { createHash } = require('node:crypto');
const { constants, existsSync, readFileSync, writeFileSync } = require('node:fs');
const files = require('node:fs/promises');
const { join } = require('node:path');
const { parentPort, workerData } = require('node:worker_threads');
const { open } = files;
const { dist, group, rank, size, scenario, options } = workerData;
const sgemoe = require(dist);
const { joinThreadGroup, Lcg64, MoETransformer, Tensor, TextDataset, Trainer, TrainingRun } = sgemoe;

const collectives = group === null ? undefined : joinThreadGroup(group, rank, { timeoutMs: 60_000 });

/** Above 65,536 elements, the least that a rank gets. */
const CONFIG = {
  hiddenDim: 64,
  nLayers: 2,
  nHeads: 4,
  nKvHeads: 2,
  headDim: 16,
  nExperts: 4,
  topKExperts: 2,
  ffnDim: 128,
  vocabSize: 256,
  maxSeqLen: 32,
};

/** Divides the experts where the options say so and there are ranks. */
const { groupSize, counts } = options;
const expertRanks = groupSize && collectives ? { collectives, groupSize, counts } : undefined;

/** The data or gradients of what this rank has; parameters that aren't trained have no gradient. */
const namedOf = (model, key) =>
  [...model.namedParameters()].flatMap(([name, each]) => (each[key] ? [[name, each[key].slice()]] : []));

function newModel() {
  const model = MoETransformer.create({ ...CONFIG, ...options.model }, { seed: 7, expertRanks });
  if (options.lora) model.addLora(options.lora);
  return model;
}

/** Rows of random tokens; some targets don't count, so that micro-batches have different numbers of them. */
function batchOf(step) {
  const random = new Lcg64(100 + step);
  const rows = (draw) => Array.from({ length: options.rows ?? 8 }, () => Array.from({ length: 6 }, draw));
  const id = () => Math.floor(random.nextFloat() * 256);
  return [rows(id), rows((_, s) => (random.nextFloat() < s / 16 ? -100 : id()))];
}

/** Rows of one or two pairs, the rejected answer of each behind the chosen one, and the reference's scores. */
function pairsOf(step) {
  const random = new Lcg64(200 + step);
  const id = () => Math.floor(random.nextFloat() * 256);
  const lengths = Array.from({ length: 8 }, (_, row) => (row % 3 === 0 ? [3, 4, 2, 3] : [5, 4]));
  const places = lengths.map((row) => row.flatMap((length) => Array.from({ length }, (_, i) => i)));
  const positions = places.map((row) => [...row, ...new Array(12 - row.length).fill(-1)]);
  const rows = (draw) => Tensor.fromIds(positions.map((row) => row.map(draw)));
  const reference = lengths.flat().map((length) => -length * (4 + 3 * random.nextFloat()));
  return {
    ids: rows(id),
    targets: rows((place) => (place > 0 ? id() : -100)),
    options: { positions: Tensor.fromIds(positions), preferences: { reference, beta: 0.5 } },
  };
}

const tensorsOf = (step) => batchOf(step).map((rows) => Tensor.fromIds(rows));

const hashOf = (arrays) => {
  const hash = createHash('sha256');
  for (const each of arrays) hash.update(new Uint8Array(each.buffer, each.byteOffset, each.byteLength));
  return hash.digest('hex');
};

function weightsOf(model) {
  return hashOf([...model.trained.shards, model.store.bufferData]);
}

const bytesOf = (arrays) => arrays.reduce((sum, { byteLength }) => sum + byteLength, 0);

/**
 * Counts the writes of this thread's files from now on, and their bytes, and lets number `failAt` fail. With `copies` a file that is
 * opened to write into it is a copy, as layered file systems make one.
 */
async function spoilWrites(path) {
  const handle = await open(`${path}-${rank}`, 'w');
  const handles = Object.getPrototypeOf(handle);
  await handle.close();
  const { write } = handles;
  const writes = { count: 0, bytes: 0, failAt: Number.NaN, copies: false };
  handles.write = function (...args) {
    if (++writes.count === writes.failAt) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    writes.bytes += args[2];
    return write.apply(this, args);
  };
  files.open = async (from, flags, ...more) => {
    const isCopy = writes.copies && flags === constants.O_WRONLY;
    if (isCopy) await files.copyFile(from, `${path}-${rank}`);
    return open(isCopy ? `${path}-${rank}` : from, flags, ...more);
  };
  return writes;
}

const told = ({ code, message }) => ({ code, message });

/** Changes one bit of a file, `fromEnd` bytes before its end, or changes it back; nothing if that is null. */
function changeBit(path, fromEnd) {
  if (fromEnd === null) return;
  const bytes = readFileSync(path);
  bytes[bytes.length - fromEnd] ^= 4;
  writeFileSync(path, bytes);
}

const scenarios = {
  /** Losses of the steps, and hashes of what they lead to. */
  async train() {
    const model = newModel();
    const trainer = new Trainer(model, { lr: 0.01, warmupSteps: 0, ...options.train }, { collectives });
    const steps = [];
    for (let step = 0; step < options.steps; step++) steps.push(trainer.trainStep(...tensorsOf(step)));
    return { steps, weights: weightsOf(model), elements: model.trained.mirrorSizes };
  },

  /** Steps on pairs of answers; with `differs` the last rank has another reference. */
  async pairs() {
    const model = newModel();
    const trainer = new Trainer(model, { lr: 0.01, warmupSteps: 0, ...options.train }, { collectives });
    const results = [];
    for (let step = 0; step < 2; step++) {
      const { ids, targets, options: more } = pairsOf(step);
      if (options.differs && rank === size - 1) more.preferences.reference[3] += 1e-9;
      try {
        results.push(trainer.trainStep(ids, targets, more));
      } catch ({ code, message }) {
        return { code, message };
      }
    }
    return { results, weights: weightsOf(model) };
  },

  /** Steps after `resume`, or from the start; then a save. */
  async saveTraining() {
    const { dir, resume, until, train } = options;
    const trainer = resume
      ? (await sgemoe.resumeTraining(dir, { collectives, expertParallel: collectives && groupSize })).trainer
      : new Trainer(newModel(), { lr: 0.01, warmupSteps: 0, ...train }, { collectives });
    while (trainer.step < until) trainer.trainStep(...tensorsOf(trainer.step));
    await sgemoe.saveTraining(dir, trainer);
    return { weights: weightsOf(trainer.model), moments: bytesOf(trainer.moments().map(({ data }) => data)) };
  },

  /**
   * Saves of one training: `unseen` ranks look elsewhere, `copies` write into copies, and one that `fails` finds the disk full two writes before
   * the last of the save before.
   */
  async saves() {
    const { dir, saves, train } = options;
    const trainer = new Trainer(newModel(), { lr: 0.01, warmupSteps: 0, ...train }, { collectives });
    trainer.trainStep(...tensorsOf(0));
    const writes = await spoilWrites(join(dir, 'probe'));
    const results = [];
    for (const { name, unseen = [], copies = [], fails } of saves) {
      const failAt = fails === rank ? writes.count - 2 : Number.NaN;
      Object.assign(writes, { count: 0, bytes: 0, failAt, copies: copies.includes(rank) });
      const path = join(dir, unseen.includes(rank) ? 'elsewhere' : '', name);
      const error = await sgemoe.saveTraining(path, trainer).then(() => null, told);
      results.push({ error, bytes: writes.bytes, exists: existsSync(path) });
    }
    return { results, moments: bytesOf(trainer.moments().map(({ data }) => data)) };
  },

  /** Resumes from what was saved, as it was and with each damage of its moments. */
  async damages() {
    const { dir, damages } = options;
    const resumed = [];
    for (const at of [null, ...damages]) {
      if (rank === 0) changeBit(join(dir, 'optimizer.safetensors'), at);
      await collectives.barrier().settled();
      resumed.push(await sgemoe.resumeTraining(dir, { collectives }).then(() => null, told));
      if (rank === 0) changeBit(join(dir, 'optimizer.safetensors'), at);
    }
    return { resumed };
  },

  /** The gradients of a step, which is not made. */
  async gradients() {
    const model = newModel();
    const trainer = new Trainer(model, options.train, { collectives });
    const ranges = [];
    const result = trainer.lossAndGradients(...tensorsOf(0), { onGradients: (range) => ranges.push(range) });
    return { result, ranges, gradients: model.store.gradShards.map((shard) => shard.slice()) };
  },

  /** Gradients of a batch, and what training steps on it lead to. */
  async oracle() {
    const model = await MoETransformer.load(options.dir, { expertRanks });
    const trainer = new Trainer(model, options.train, { collectives });
    const batch = [options.ids, options.targets].map((rows) => Tensor.fromIds(rows));
    const named = (key) => namedOf(model, key);
    const result = trainer.lossAndGradients(...batch);
    const gradients = named('grad');
    const steps = Array.from({ length: options.steps }, () => {
      return { result: trainer.trainStep(...batch), weights: named('data') };
    });
    return { result, gradients, steps, after: trainer.lossAndGradients(...batch) };
  },

  /**
   * By name, of divided experts this rank's: first weights, gradients of two batches, weights after steps. Before the second batch `starved`
   * experts become such that no token chooses them.
   */
  async named() {
    const model = newModel();
    const trainer = new Trainer(model, { lr: 1e-3, warmupSteps: 0, ...options.train }, { collectives });
    const initial = namedOf(model, 'data');
    const results = [trainer.lossAndGradients(...tensorsOf(0))];
    const gradients = [namedOf(model, 'grad')];
    for (const [, { data }] of model.namedBuffers()) for (const e of options.starved ?? []) data[e] = -10;
    results.push(trainer.lossAndGradients(...tensorsOf(1)));
    gradients.push(namedOf(model, 'grad'));
    for (let step = 0; step < 3; step++) results.push(trainer.trainStep(...tensorsOf(step)));
    return { results, initial, gradients, weights: namedOf(model, 'data') };
  },

  /** Bytes of arrays from the kernels: the most while a model was made, those after it, and those after a step; and what is told before. */
  async memory() {
    const kernels = sgemoe.createKernels();
    const { memory } = kernels;
    const bytes = { now: 0, most: 0 };
    const taking = (make) => (length, isShared) => {
      const array = make.call(memory, length, isShared);
      bytes.now += array.byteLength;
      bytes.most = Math.max(bytes.most, bytes.now);
      return array;
    };
    const release = (array) => {
      bytes.now -= array.byteLength;
      memory.release(array);
    };
    const counting = { ...memory, floats: taking(memory.floats), ints: taking(memory.ints), release };
    const counted = Object.create(kernels, { memory: { value: counting } });
    const model = MoETransformer.create({ ...CONFIG, ...options.model }, { kernels: counted, expertRanks });
    const made = { ...bytes };
    new Trainer(model, options.train, { collectives }).trainStep(...tensorsOf(0));
    const told = sgemoe.memoryBytes(model.config, options.told);
    return { making: made.most, made: made.now, trained: bytes.now, told };
  },

  /** What a rank has of a rounded sum, of parts of these sizes. */
  async roundedSums() {
    const { reduceScatterRounded } = require(join(dist, 'training', 'distributed', 'roundedSums.js'));
    const { counts, addends, at } = options;
    const x = Float32Array.from(addends[rank]);
    reduceScatterRounded(sgemoe.createKernels('reference'), collectives, x, at, counts).wait();
    return { x };
  },

  /** Two choices of parameters, of which a rank sees only one change, each with a step; then the first trainer's step. */
  async choices() {
    const model = newModel();
    const make = (train) => new Trainer(model, { train, warmupSteps: 0 }, { collectives });
    const first = make(['experts.0', 'experts.2']);
    const steps = [first.trainStep(...tensorsOf(0))];
    model.train(['experts.0']);
    model.train(['experts.0', 'experts.2']);
    steps.push(make(['experts.0']).trainStep(...tensorsOf(1)));
    try {
      first.trainStep(...tensorsOf(2));
    } catch ({ message }) {
      return { norms: steps.map(({ gradNorm }) => gradNorm), message };
    }
  },

  /** What a trainer of divided experts refuses. */
  async refusals() {
    const messages = [];
    const refused = (call) => {
      try {
        call();
      } catch ({ name, message }) {
        messages.push(`${name}: ${message}`);
      }
    };
    const model = newModel();
    refused(() => new Trainer(model, {}, { collectives: sgemoe.soloCollectives() }));
    model.addLora({ targets: ['attention'] });
    refused(() => new Trainer(model, {}, { collectives }));
    return { messages };
  },

  /** One rank differs from the others. */
  async differ() {
    const model = newModel();
    if (options.what === 'experts' && rank === size - 1) {
      const own = [...model.namedParameters()].find(([name]) => name.includes('experts'));
      own[1].data[3] = 2;
    }
    if (options.what === 'weights' && rank === size - 1) model.parameter('model.norm.weight').data[3] = 2;
    const trainer = new Trainer(model, options.train, { collectives });
    if (options.what === 'counters' && rank === 0) trainer.step = 3;
    const batch = tensorsOf(options.what === 'batch' && rank === size - 1 ? 1 : 0);
    try {
      trainer.trainStep(...batch);
    } catch ({ code, message }) {
      return { code, message, weights: weightsOf(model) };
    }
    return {};
  },

  /** A signal that only one rank gets. */
  async stop() {
    const trainer = new Trainer(newModel(), options.train, { collectives });
    const controller = new AbortController();
    const { signal } = controller;
    function* data() {
      for (let step = 0; ; step++) {
        if (step === 2 && rank === size - 1) controller.abort(new Error('told to stop'));
        const [ids, targets] = batchOf(step).map((rows) => Int32Array.from(rows.flat()));
        yield { ids, targets, batch: 8, seqLen: 6 };
      }
    }
    let made = 0;
    try {
      for await (const _ of trainer.run({ data: data(), steps: 5, signal, onAbort: options.onAbort })) made++;
    } catch ({ name, message }) {
      return { made, name, message };
    }
    return { made };
  },

  /**
   * A whole run in a folder, on the text or on a file of `pairs`; `stopAt` is a step after which the last rank is told to stop, `stopOn` the type of an event,
   * `saveAt` a step to save after, `spoils` what can't be saved.
   */
  async run() {
    const text = Array.from({ length: 60 }, (_, i) => `${i} and ${(i * i) % 17}. `).join('');
    const controller = new AbortController();
    const { dir, stopAt, stopOn, saveAt, resume, config, save, spoils, pairs } = options;
    const data = { tokenizer: new sgemoe.ByteTokenizer(), seqLen: 32, validationFraction: 0.3 };
    const recipe = {
      dataset: pairs ? await sgemoe.PreferenceDataset.fromPaths(pairs, data) : TextDataset.fromText(text),
      batchSize: 4,
      seqLen: pairs ? 32 : 8,
      evalInterval: 3,
      evalBatches: 3,
      retrySeconds: [],
      // A signal on one rank is enough.
      ...(rank === size - 1 && { signal: controller.signal }),
      ...save,
    };
    const train = { lr: 1e-2, warmupSteps: 2, totalSteps: 8, ...config };
    const events = [];
    try {
      const run = resume
        ? await TrainingRun.resume(dir, {
            ...recipe,
            config,
            collectives,
            expertParallel: collectives && groupSize,
          })
        : await TrainingRun.start(dir, {
            ...recipe,
            trainer: new Trainer(newModel(), train, { collectives }),
          });
      for await (const { type, step, part, error, loss, text } of run) {
        events.push({ type, step, part, loss, text, error: error?.message });
        // A file where a folder belongs.
        if (type === 'start' && rank === 0 && spoils) writeFileSync(join(dir, spoils), '');
        if (type === 'step' && step === saveAt && rank === size - 1) run.requestSave();
        if ((type === stopOn || (type === 'step' && step === stopAt)) && rank === size - 1)
          controller.abort();
      }
      const { steps, interrupted, validation, best } = run.result;
      return { events, result: { steps, interrupted, validation, best } };
    } catch ({ code, message }) {
      return { events, failure: { code, message } };
    }
  },
};

scenarios[scenario]().then(async (result) => {
  if (result.code === undefined) await collectives?.close().settled();
  parentPort.postMessage(result);
});
