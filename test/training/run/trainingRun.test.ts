import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type RunEvent,
  type StartRunOptions,
  TextDataset,
  type TokenDataset,
  type Tokenizer,
  Trainer,
  TrainingRun,
} from '../../../src';
import { expectError } from '../../helpers/expectError';
import { smallModel } from '../../helpers/smallModel';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-run-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const dataset = TextDataset.fromText(
  Array.from({ length: 60 }, (_, i) => `${i} and ${(i * i) % 17}. `).join(''),
);
const RECIPE = { dataset, batchSize: 2, seqLen: 8, seed: 3, evalInterval: 4, evalBatches: 2 };
const TRAIN = { lr: 1e-2, warmupSteps: 3, totalSteps: 12 };

function start(name: string, options: Partial<StartRunOptions> = {}): Promise<TrainingRun> {
  const trainer = new Trainer(smallModel({ vocabSize: 256 }), TRAIN);
  return TrainingRun.start(join(folder, name), { trainer, ...RECIPE, ...options });
}

/** All events of a run. */
async function makeAll(run: TrainingRun, onEvent: (event: RunEvent) => void = () => {}): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) {
    events.push(event);
    onEvent(event);
  }
  return events;
}

const read = (name: string, file: string) => readFileSync(join(folder, name, file));
const json = (name: string, file: string) => JSON.parse(read(name, file).toString());
const metrics = (name: string) =>
  read(name, 'metrics.jsonl')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map(({ tokensPerSec, ...line }) => line);

function expectSameRun(a: string, b: string): void {
  for (const file of ['model.safetensors', 'optimizer.safetensors', 'best/model.safetensors']) {
    expect(read(a, file).equals(read(b, file)), file).toBe(true);
  }
  expect(metrics(a)).toEqual(metrics(b));
}

describe('a training run', () => {
  it('yields its steps, evaluations and saves, in order, and ends with its result', async () => {
    const run = await start('whole', { samples: { prompt: 'and', maxTokens: 4, interval: 6 } });
    const events = await makeAll(run);
    const types = events.map((event) => event.type);
    expect(types.slice(0, 5)).toEqual(['start', 'step', 'step', 'step', 'step']);
    expect(types.slice(5, 9)).toEqual(['evaluation', 'saved', 'saved', 'saved']);
    expect(types.slice(-4)).toEqual(['saved', 'finalEvaluation', 'saved', 'end']);
    const steps = events.flatMap((event) => (event.type === 'step' ? [event.step] : []));
    expect(steps).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
    const evaluations = events.flatMap((event) => (event.type === 'evaluation' ? [event] : []));
    expect(evaluations.map(({ step }) => step)).toEqual([4, 8, 12]);
    expect(run.result!.best!.loss).toBe(Math.min(...evaluations.map(({ loss }) => loss)));
    const samples = events.flatMap((event) => (event.type === 'sample' ? [event] : []));
    expect(samples.map(({ step, prompt }) => [step, prompt])).toEqual([
      [6, 'and'],
      [12, 'and'],
    ]);
    expect(run.result).toMatchObject({ steps: 12, skippedSteps: 0, interrupted: false, stoppedEarly: false });
    expect(run.result!.validation!.loss).toBeGreaterThan(0);
    expect(events.at(-1)).toEqual({ type: 'end', result: run.result });
  });

  it('writes run.json with its result, and leaves no other files than those documented', () => {
    const { sgemoe, options, model, result } = json('whole', 'run.json');
    expect({ sgemoe: typeof sgemoe, model: model.model_type }).toEqual({ sgemoe: 'string', model: 'sgemoe' });
    expect(options).toMatchObject({ batchSize: 2, seqLen: 8, evalInterval: 4, lr: 1e-2, totalSteps: 12 });
    expect(options).not.toHaveProperty('trainer');
    expect(result).toMatchObject({ steps: 12, interrupted: false });
    const names = ['best', 'config.json', 'curve.svg', 'metrics.jsonl', 'model.safetensors', 'run.json'];
    const more = ['optimizer.safetensors', 'samples.jsonl', 'state.json', 'tokenizer.json'];
    expect(readdirSync(join(folder, 'whole')).sort()).toEqual([...names, ...more].sort());
  });

  it('ends at an abort, saved, and is resumed to the bit', async () => {
    const plain = await makeAll(await start('plain'));
    expect(plain.at(-1)).toMatchObject({ type: 'end' });
    const stop = new AbortController();
    const run = await start('aborted', { signal: stop.signal });
    await makeAll(run, (event) => event.type === 'step' && event.step === 6 && stop.abort());
    expect(run.result).toMatchObject({ steps: 6, interrupted: true, validation: null });
    expect(json('aborted', 'run.json').result).toMatchObject({ steps: 6, interrupted: true });
    const resumed = await TrainingRun.resume(join(folder, 'aborted'), RECIPE);
    expect([resumed.stepsMade, resumed.isOver]).toEqual([6, false]);
    const events = await makeAll(resumed);
    expect(events[0]).toEqual({ type: 'start', stepsMade: 6 });
    expectSameRun('aborted', 'plain');
    expect(resumed.result!.validation).toEqual(json('plain', 'run.json').result.validation);
  });

  it('is left without a save; what was saved before is resumed to the bit', async () => {
    for await (const event of await start('left')) {
      if (event.type === 'step' && event.step === 7) break;
    }
    expect(json('left', 'run.json').result).toBeUndefined();
    const resumed = await TrainingRun.resume(join(folder, 'left'), RECIPE);
    expect(resumed.stepsMade).toBe(4);
    await makeAll(resumed);
    expectSameRun('left', 'plain');
  });

  it('opens its data with its own tokenizer, once that is known to be whole', async () => {
    const dir = join(folder, 'own tokenizer');
    await makeAll(await start('own tokenizer'));
    const opened: string[] = [];
    const open = async (tokenizer: Tokenizer) => {
      opened.push(JSON.stringify(tokenizer.toJSON()));
      return dataset;
    };
    const run = await TrainingRun.resume(dir, { ...RECIPE, dataset: open });
    expect(opened).toEqual([JSON.stringify(dataset.tokenizer.toJSON())]);
    expect(run.dataset).toBe(dataset);
    await run.close();
    await expect(TrainingRun.resume(dir, { ...RECIPE, batchSize: 0, dataset: open })).rejects.toThrow(
      /batchSize/,
    );
    writeFileSync(join(dir, 'tokenizer.json'), '{"type":"byte","vocab_size":257}');
    await expectError('SGEMOE_TRAINING_STATE', /tokenizer\.json: it is damaged/, () =>
      TrainingRun.resume(dir, { ...RECIPE, dataset: open }),
    );
    expect(opened).toHaveLength(2);
  });

  it('goes on beyond its end with more steps', async () => {
    const config = { totalSteps: 14 };
    const run = await TrainingRun.resume(join(folder, 'left'), { ...RECIPE, config });
    await makeAll(run);
    expect(run.result).toMatchObject({ steps: 14 });
  });

  it('keeps the evaluation during which the abort comes', async () => {
    const stop = new AbortController();
    const { tokenizer, files, trainTokens, validationTokens } = dataset;
    const aborting: TokenDataset = {
      tokenizer,
      files,
      trainTokens,
      validationTokens,
      batches: (options) => dataset.batches(options),
      batchesInOrder: (split, options) => dataset.batchesInOrder(split, options),
      validationBatches(options) {
        stop.abort();
        return dataset.validationBatches(options);
      },
    };
    const run = await start('evaluating', { dataset: aborting, signal: stop.signal });
    await makeAll(run);
    expect(run.result).toMatchObject({ steps: 4, interrupted: true, best: { step: 4 } });
    expect(metrics('evaluating').at(-1)!.validationLoss).toBe(run.result!.best!.loss);
  });

  it('records its failure in run.json and releases the folder', async () => {
    const broken: TokenDataset = Object.create(dataset, {
      validationBatches: {
        value: () => {
          throw new Error('gone');
        },
      },
    });
    const run = await start('broken', { dataset: broken });
    await expect(makeAll(run)).rejects.toThrow('gone');
    expect(json('broken', 'run.json').error).toEqual({ message: 'gone' });
    await (await start('broken', { overwrite: true })).close();
  });
});

describe('a diverged run', () => {
  const diverging = () =>
    new Trainer(smallModel({ vocabSize: 256 }), { lr: 1e30, warmupSteps: 0, totalSteps: 40 });

  it('ends with its code after this many skipped steps in a row, each with its own number', async () => {
    const run = await start('diverged', { trainer: diverging(), maxSkippedSteps: 5 });
    const seen: RunEvent[] = [];
    await expectError('SGEMOE_TRAINING_DIVERGED', /not finite in 5 steps in a row/, () =>
      makeAll(run, (event) => seen.push(event)),
    );
    const steps = seen.flatMap((event) => (event.type === 'step' ? [event] : []));
    expect(steps.map(({ step, update }) => [step, update])).toEqual(
      [1, 2, 3, 4, 5, 6].map((step) => [step, Math.min(step, 2)]),
    );
    expect(steps.map(({ skippedInARow }) => skippedInARow)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(metrics('diverged').map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(json('diverged', 'run.json').error.code).toBe('SGEMOE_TRAINING_DIVERGED');
  });

  it('keeps counting when it is resumed, and cuts the metrics at the checkpoint', async () => {
    const resumed = await TrainingRun.resume(join(folder, 'diverged'), { ...RECIPE, maxSkippedSteps: 5 });
    expect(resumed.stepsMade).toBe(4);
    await expectError('SGEMOE_TRAINING_DIVERGED', /5 steps in a row/, () => makeAll(resumed));
    expect(metrics('diverged').map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('of a version that gave skipped steps the number of the next one is cut at the same step', async () => {
    const file = join(folder, 'diverged', 'metrics.jsonl');
    const old = metrics('diverged').map(({ update, ...line }) => JSON.stringify({ ...line, step: update }));
    writeFileSync(file, `${old.join('\n')}\n`);
    const resumed = await TrainingRun.resume(join(folder, 'diverged'), { ...RECIPE, maxSkippedSteps: 5 });
    await expectError('SGEMOE_TRAINING_DIVERGED', /5 steps in a row/, () => makeAll(resumed));
    expect(metrics('diverged').map(({ step }) => step)).toEqual([1, 2, 2, 2, 5, 6]);
  });

  it('is not ended without a limit', async () => {
    const run = await start('patient', { trainer: diverging(), maxSkippedSteps: 0 });
    await makeAll(run);
    expect(run.result).toMatchObject({ steps: 40, skippedSteps: 39 });
  });
});

describe('what is refused', () => {
  it('a folder with an earlier run, or other things, which stay', async () => {
    await expectError('SGEMOE_RUN_FOLDER', /holds an earlier run/, () => start('whole'));
    expect(json('whole', 'run.json').result.steps).toBe(12);
    writeFileSync(join(folder, 'mine.txt'), 'mine');
    await expectError('SGEMOE_RUN_FOLDER', /not empty and holds no earlier run/, () =>
      start('.', { overwrite: true }),
    );
    expect(readFileSync(join(folder, 'mine.txt'), 'utf8')).toBe('mine');
  });

  it('a run that another process works on, until that has ended; nothing is touched before it is iterated', async () => {
    const first = await start('whole', { overwrite: true });
    expect(json('whole', 'run.json').result.steps).toBe(12);
    await expectError('SGEMOE_FOLDER_LOCKED', /in use by process \d+ .*a training run/, () =>
      TrainingRun.resume(join(folder, 'whole'), RECIPE),
    );
    await first.close();
    await expect(makeAll(first)).rejects.toThrow(/iterated only once/);
    await (await TrainingRun.resume(join(folder, 'whole'), RECIPE)).close();
    expect(json('whole', 'run.json').result.steps).toBe(12);
  });

  it('other data than those of the run', async () => {
    const other = TextDataset.fromText('another text. '.repeat(40));
    const dir = join(folder, 'whole');
    await expectError('SGEMOE_TRAINING_STATE', /data have become/, () =>
      TrainingRun.resume(dir, { ...RECIPE, dataset: other }),
    );
    expect(json('whole', 'run.json').result.steps).toBe(12);
  });

  it.each([
    ['a misspelt option', { evalIntervall: 3 }, /unknown option 'evalIntervall'/],
    ['no batch', { batchSize: 0 }, /batchSize must be an integer >= 1, got 0/],
    [
      'an empty prompt',
      { samples: { interval: 1, prompt: '', maxTokens: 3 } },
      /prompt must be a text that is not empty/,
    ],
    ['no interval', { saveInterval: { minutes: 0 } }, /saveInterval/],
    ['a count below 0', { maxSkippedSteps: -1 }, /maxSkippedSteps must be an integer >= 0, got -1/],
    ['no trainer', { trainer: {} }, /trainer must be a Trainer/],
  ])('%s, before a folder is made', async (_what, options, message) => {
    await expect(start('never', options as never)).rejects.toThrow(message);
    expect(existsSync(join(folder, 'never'))).toBe(false);
  });
});
