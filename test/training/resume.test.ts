import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Lcg64,
  loadCheckpoint,
  MoETransformer,
  resumeTraining,
  SgemoeError,
  saveTraining,
  TextDataset,
  Trainer,
} from '../../src';
import { getKernels } from '../../src/backend';
import { sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { ALL_DENSE, SOME_DENSE, smallModel } from '../helpers/smallModel';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-resume-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const text = Array.from({ length: 60 }, (_, i) => `${i} and ${(i * i) % 17}. `).join('');

const OPTIONS = { lr: 1e-2, warmupSteps: 3, totalSteps: 20, gradClip: Number.POSITIVE_INFINITY };

/** Makes this many steps of a trainer, new or resumed from a folder, and returns the trainer. */
async function train(
  steps: number,
  from: Trainer | string = new Trainer(smallModel({ vocabSize: 256 }), OPTIONS),
): Promise<Trainer> {
  const resumed = from instanceof Trainer ? null : await resumeTraining(from);
  const trainer = from instanceof Trainer ? from : resumed!.trainer;
  const batches = dataset.batches({ batchSize: 2, seqLen: 8, seed: 3 });
  if (resumed?.data) batches.setState(resumed.data);
  for await (const step of trainer.run({ data: batches, steps })) expect(step.skipped).toBe(false);
  positions.set(trainer, batches.getState());
  return trainer;
}
const dataset = TextDataset.fromText(text);
const positions = new WeakMap<Trainer, ReturnType<ReturnType<typeof dataset.batches>['getState']>>();

function momentsOf(trainer: Trainer): Map<string, Float32Array> {
  return new Map(trainer.moments().map(({ name, data }) => [name, data]));
}

describe('a resumed training', () => {
  test('may have been saved of a frozen model, with its selection biases', async () => {
    const dirs = ['thawed', 'frozen'].map((name) => join(folder, name));
    const trainer = new Trainer(smallModel({ vocabSize: 256 }), { ...OPTIONS, routerBiasUpdateRate: 0.01 });
    await train(2, trainer);
    expect(trainer.model.store.bufferData.some((value) => value !== 0)).toBe(true);
    await saveTraining(dirs[0], trainer);
    trainer.model.freeze();
    await saveTraining(dirs[1], trainer);
    for (const name of ['model.safetensors', 'optimizer.safetensors', 'state.json']) {
      const [thawed, frozen] = dirs.map((dir) => readFileSync(join(dir, name)));
      expect(frozen.equals(thawed), name).toBe(true);
    }
    expect((await resumeTraining(dirs[1])).trainer.step).toBe(2);
  });

  test.each([
    ['experts', {}],
    ['a dense layer', SOME_DENSE],
    ['dense layers alone', ALL_DENSE],
  ])(
    'with %s makes the steps that it would have made: weights, moments, counters and options to the bit',
    async (name, extra) => {
      const anew = () => new Trainer(smallModel({ vocabSize: 256, ...extra }), OPTIONS);
      const whole = await train(9, anew());
      const first = await train(4, anew());
      const dir = join(folder, `exact-${name}`);
      await saveTraining(dir, first, { data: positions.get(first), progress: { best: 2.5 } });
      const second = await train(5, dir);
      expect(second.config).toEqual(whole.config);
      expect(second.getState()).toEqual({ step: 9, skippedSteps: 0 });
      second.model.store.shards.forEach((shard, i) => {
        expect(sameBits(shard, whole.model.store.shards[i])).toBe(true);
      });
      for (const [name, moment] of momentsOf(second)) {
        expect(sameBits(moment, momentsOf(whole).get(name)!), name).toBe(true);
      }
      expect((await resumeTraining(dir)).progress).toEqual({ best: 2.5 });
    },
  );

  test('covers every element of the moments but the padding, which is zero', async ({ skip }) => {
    const trainer = await train(3);
    const { store } = trainer.model;
    skip(store.kernels.info.backend === 'wasm', 'its arrays have no buffers of their own');
    const named = momentsOf(trainer);
    expect([...named.keys()]).toEqual(
      ['m.', 'v.'].flatMap((prefix) => store.parameters.map(({ name }) => prefix + name)),
    );
    const shards = new Map<ArrayBufferLike, Float32Array>();
    for (const data of named.values()) shards.set(data.buffer, new Float32Array(data.buffer));
    expect(shards.size).toBe(2 * store.shards.length);
    for (const moment of named.values()) moment.fill(0);
    for (const shard of shards.values()) expect(shard.every((value) => Object.is(value, 0))).toBe(true);
  });

  test('makes the same steps from weights and moments in several buffers, which its files do not show', async () => {
    const Model = MoETransformer as unknown as new (...args: unknown[]) => MoETransformer;
    const build = () => {
      const model = new Model(smallModel({ vocabSize: 256 }).config, getKernels(), {
        maxShardElements: 4096,
      });
      model.store.initialise(1);
      return new Trainer(model, OPTIONS);
    };
    const whole = await train(9, build());
    expect(whole.model.store.shards.length).toBeGreaterThan(3);
    const dir = join(folder, 'shards');
    const first = await train(4, build());
    await saveTraining(dir, first, { data: positions.get(first) });
    const second = await train(5, dir);
    // Without clipping the update of an element depends on no sum over others, so its buffer doesn't matter.
    for (const [name, { data }] of second.model.namedParameters()) {
      expect(sameBits(data, whole.model.parameter(name).data), name).toBe(true);
    }
    for (const [name, moment] of momentsOf(second)) {
      expect(sameBits(moment, momentsOf(whole).get(name)!), name).toBe(true);
    }
  });

  test('takes other options when given', async () => {
    const dir = join(folder, 'other');
    await saveTraining(dir, await train(1));
    const { trainer } = await resumeTraining(dir, { config: { lr: 5e-4 } });
    expect(trainer.config).toMatchObject({ lr: 5e-4, warmupSteps: 3, gradClip: Number.POSITIVE_INFINITY });
    await expect(resumeTraining(dir, { config: { lr: -1 } })).rejects.toThrow(RangeError);
  });

  test('may not have been made a step yet', async () => {
    const dir = join(folder, 'fresh');
    await saveTraining(dir, new Trainer(smallModel()));
    expect((await resumeTraining(dir)).trainer.getState()).toEqual({ step: 0, skippedSteps: 0 });
  });
});

test('a training of a version without these checksums is resumed, with a note', async () => {
  const dir = join(folder, 'old');
  await saveTraining(dir, await train(2));
  const notes: string[] = [];
  const onNote = (note: string) => notes.push(note);
  await resumeTraining(dir, { onNote });
  expect(notes).toEqual([]);
  const file = join(dir, 'state.json');
  const { optimizer_crc32, files_crc32, state_crc32, ...old } = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify(old));
  expect((await resumeTraining(dir, { onNote })).trainer.step).toBe(2);
  expect(notes).toEqual([expect.stringMatching(/earlier version, without checksums/)]);
});

describe('what is refused', () => {
  test('a folder of weights alone, and other weights over those of a training', async () => {
    const dir = join(folder, 'weights');
    await smallModel().save(dir);
    await expectError('SGEMOE_TRAINING_STATE', /holds weights, no training/, () => resumeTraining(dir));
    await saveTraining(dir, new Trainer(smallModel()));
    await resumeTraining(dir);
    await smallModel({}, 7).save(dir);
    await expectError('SGEMOE_TRAINING_STATE', /state\.json: it belongs to other weights/, () =>
      resumeTraining(dir),
    );
    await MoETransformer.load(dir);
  });

  test.each([
    ['version', 2, /version must be 1, got 2/],
    ['format', 'other', /format must be "sgemoe-training"/],
    ['step', -1, /step must be an integer >= 0, got -1/],
    ['skippedSteps', null, /skippedSteps must be a number/],
    ['config', null, /has no config/],
    ['config', { lr: 'x' }, /lr must be a number, got string/],
  ])('a state.json whose %s is %j', async (key, value, message) => {
    const dir = join(folder, 'damaged');
    await saveTraining(dir, new Trainer(smallModel()));
    const file = join(dir, 'state.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), [key]: value }));
    await expectError('SGEMOE_TRAINING_STATE', message, () => resumeTraining(dir));
  });

  test('any file of it in which one bit has changed, by name', async () => {
    const dir = join(folder, 'bits');
    const trainer = await train(3);
    const { tokenizer } = dataset;
    await saveTraining(dir, trainer, { data: positions.get(trainer), tokenizer, progress: { best: 2.5 } });
    const rng = new Lcg64(5);
    for (const name of readdirSync(dir)) {
      const file = join(dir, name);
      const whole = readFileSync(file);
      for (let i = 0; i < 12; i++) {
        const bytes = Buffer.from(whole);
        bytes[rng.nextInt(bytes.length)] ^= 1 << rng.nextInt(8);
        writeFileSync(file, bytes);
        const refused = await resumeTraining(dir).catch((error: unknown) => error);
        // A file that is no longer JSON or has no valid safetensors header has the code of its format.
        expect(refused, `${name} ${i}`).toBeInstanceOf(SgemoeError);
      }
      writeFileSync(file, whole);
    }
    await resumeTraining(dir);
  });

  test('a bit of the moments, which the second step would have turned into NaN', async () => {
    const dir = join(folder, 'moment');
    await saveTraining(dir, await train(3));
    const file = join(dir, 'optimizer.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 1] ^= 0x40;
    writeFileSync(file, bytes);
    await expectError('SGEMOE_TRAINING_STATE', /optimizer\.safetensors: it is damaged/, () =>
      resumeTraining(dir),
    );
  });

  test.each([
    ['state.json', (text: string) => text.replace('"best": 2.5', '"best": 2.4')],
    ['config.json', (text: string) => text.replace('0.000001', '0.000002')],
    // Without the check this would be reported as a missing tensor, and the next one as a vocabulary of 356.
    ['config.json', (text: string) => text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')],
    ['tokenizer.json', (text: string) => text.replace('256', '356')],
    ['tokenizer.json', (text: string) => text.replace('256', '257')],
  ])('a %s that was changed', async (name, change) => {
    const dir = join(folder, `changed ${name}`);
    await saveTraining(dir, await train(1), { tokenizer: dataset.tokenizer, progress: { best: 2.5 } });
    const file = join(dir, name);
    const text = readFileSync(file, 'utf8');
    expect(change(text)).not.toBe(text);
    writeFileSync(file, change(text));
    const message = new RegExp(`${name}: it is damaged`);
    await expectError('SGEMOE_TRAINING_STATE', message, () => resumeTraining(dir));
  });

  test('a train step while the files are written, which a failed save ends too', async () => {
    const trainer = new Trainer(smallModel({ vocabSize: 256 }));
    const [batch] = dataset.validationBatches({ batchSize: 1, seqLen: 8 });
    const step = async () => {
      for await (const { step } of trainer.run({ data: [batch] })) return step;
      return undefined;
    };
    const saving = saveTraining(join(folder, 'busy'), trainer);
    await expectError('SGEMOE_TRAINING_SAVING', /await saveTraining/, step);
    await saving;
    expect(await step()).toBe(1);
    writeFileSync(join(folder, 'a file'), '');
    await expectError('SGEMOE_CHECKPOINT_WRITE', /a file/, () =>
      saveTraining(join(folder, 'a file', 'run'), trainer),
    );
    expect(await step()).toBe(2);
  });

  test('options that are misspelt or impossible', async () => {
    const trainer = new Trainer(smallModel());
    await expect(saveTraining(folder, trainer, { keep: 0 })).rejects.toThrow(/keep must be an integer >= 1/);
    await expect(saveTraining(folder, trainer, { best: 1 } as never)).rejects.toThrow(
      /unknown option 'best'/,
    );
    await expect(saveTraining(folder, {} as never)).rejects.toThrow(/trainer must be a Trainer/);
  });
});

describe('the history', () => {
  test('holds the last checkpoints, each whole, whatever an interrupted save left in it', async () => {
    const dir = join(folder, 'history');
    const trainer = new Trainer(smallModel());
    for (let step = 1; step <= 5; step++) {
      trainer.setState({ step, skippedSteps: 0 });
      await saveTraining(dir, trainer, { keep: 3 });
    }
    const history = join(dir, 'checkpoints');
    const names = ['step-0000000003', 'step-0000000004', 'step-0000000005'];
    expect(readdirSync(history).sort()).toEqual(names);
    for (const [i, name] of names.entries()) {
      expect((await resumeTraining(join(history, name))).trainer.step).toBe(i + 3);
    }
    writeFileSync(join(history, '.saving-4'), 'left over');
    await saveTraining(dir, trainer, { keep: 2 });
    expect(readdirSync(history).sort()).toEqual(names.slice(1));
  });
});

const SCRIPT = `
const { MoETransformer, ModelConfig, Trainer, TextDataset, saveTraining, resumeTraining, setThreads } =
  require(${JSON.stringify(resolve(__dirname, '../../dist/index.js'))});
async function main(what, dir, to) {
  const dataset = TextDataset.fromText(${JSON.stringify(text)});
  const sizes = { hiddenDim: 32, nLayers: 2, nHeads: 2, nKvHeads: 1, headDim: 16, nExperts: 4, topKExperts: 2,
    ffnDim: 32, vocabSize: 256, maxSeqLen: 16 };
  const resumed = what === 'resume' ? await resumeTraining(dir) : null;
  const options = { lr: 1e-2, warmupSteps: 3, totalSteps: 20, routerBiasUpdateRate: 0.01 };
  const trainer = resumed ? resumed.trainer
    : new Trainer(MoETransformer.create(new ModelConfig(sizes), { seed: 5 }), options);
  const data = dataset.batches({ batchSize: 4, seqLen: 16, seed: 9 });
  if (resumed) data.setState(resumed.data);
  for await (const { step } of trainer.run({ data, steps: what === 'whole' ? 10 : 7 })) {
    if (what === 'half' && step === 5) await saveTraining(dir, trainer, { data: data.getState() });
    if (step === 10) return saveTraining(to, trainer, { data: data.getState() });
  }
  console.log('beyond');
  setInterval(() => {}, 1000);
}
main(...process.argv.slice(1)).catch((error) => { console.error(error); process.exitCode = 1; });
`;

function child(backend: string, ...args: string[]) {
  return spawn(process.execPath, ['-e', SCRIPT, ...args], {
    env: { ...process.env, SGEMOE_BACKEND: backend },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

// 'auto' is what this machine computes with by default.
describe.each(['auto', 'builtin', 'reference'])('backend %s, in processes of their own', (backend) => {
  test.skipIf(backend === 'builtin' && process.env.SGEMOE_BACKEND === 'reference')(
    '10 steps equal 5, two more that are lost to a kill -9, and 5 after a resume, to the bit',
    async () => {
      const [half, whole, end] = ['half', 'whole', 'end'].map((name) => join(folder, backend, name));
      expect(await once(child(backend, 'whole', '', whole), 'close')).toEqual([0, null]);
      const killed = child(backend, 'half', half);
      await once(killed.stdout, 'data');
      killed.kill('SIGKILL');
      await once(killed, 'close');
      expect(await once(child(backend, 'resume', half, end), 'close')).toEqual([0, null]);
      for (const name of ['config.json', 'model.safetensors', 'optimizer.safetensors', 'state.json']) {
        expect(readFileSync(join(end, name)).equals(readFileSync(join(whole, name))), name).toBe(true);
      }
      const { tensors } = await loadCheckpoint(half);
      const before = await tensors.read('lm_head.weight');
      await tensors.close();
      const after = (await MoETransformer.load(end)).parameter('lm_head.weight').data;
      expect(sameBits(before as Float32Array, after)).toBe(false);
    },
  );
});
