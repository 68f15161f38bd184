import { createReadStream, existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { readJsonFile } from '../../checkpoint/jsonFile';
import { ModelConfig } from '../../config/modelConfig';
import { stepCounter } from '../../training/run/metricsLog';
import { routerHealth } from '../../training/run/routerHealth';
import { RunFolder } from '../../training/run/runFolder';
import { UsageError } from '../terminal/usageError';
import { CurveBuilder } from './curves';
import { LoadMapBuilder } from './loadMap';
import type { Curve, CurveName, RunReport, RunSample } from './reportData';

/** The numbers of a line of metrics.jsonl that become curves unchanged, those of preference pairs at the end. */
const VALUES = [
  'crossEntropy',
  'auxLoss',
  'lr',
  'gradNorm',
  'tokensPerSec',
  'validationLoss',
  'validationBitsPerByte',
  'accuracy',
  'validationAccuracy',
  'margin',
  'chosenReward',
  'rejectedReward',
] as const;
const HEALTH = ['loadEntropy', 'maxOverMean', 'deadExperts'] as const;

/** Reads a run's folder. @throws UsageError for a folder that no training run has written. */
export async function readRun(path: string): Promise<RunReport> {
  const folder = new RunFolder(path);
  if (!existsSync(folder.metricsFile)) {
    throw new UsageError(`${path} holds no run of sgemoe train: there is no ${folder.metricsFile}.`);
  }
  const metrics = new MetricsReader();
  for await (const line of jsonLines(folder.metricsFile)) metrics.add(line);
  const samples = new SampleReader();
  for await (const line of jsonLines(join(path, 'samples.jsonl'))) samples.add(line);
  const run = (await readJsonFile(folder.runFile, 'SGEMOE_CONFIG_INVALID')) ?? {};
  const name = basename(resolve(path));
  return { name, path, parameters: parametersOf(run.model), ...metrics.build(), ...samples.build(), run };
}

function parametersOf(model: unknown): RunReport['parameters'] {
  try {
    const config = ModelConfig.fromJSON(model);
    return { total: config.totalParams(), active: config.activeParams() };
  } catch {
    return null;
  }
}

/** The objects of a file of JSON lines. Other lines are skipped, since the last one may be incomplete. */
async function* jsonLines(path: string): AsyncGenerator<Record<string, unknown>, void> {
  if (!existsSync(path)) return;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const line = parse(text);
    if (typeof line === 'object' && line !== null) yield line as Record<string, unknown>;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

class MetricsReader {
  #steps = 0;
  #skippedSteps = 0;
  readonly #stepOf = stepCounter();
  readonly #curves = new Map<CurveName, CurveBuilder>();
  readonly #load = new LoadMapBuilder();

  constructor() {
    for (const name of [...VALUES, ...HEALTH]) this.#curves.set(name, new CurveBuilder());
  }

  add(line: Record<string, unknown>): void {
    const { skipped, update, expertLoad } = line;
    if (typeof line.step !== 'number') return;
    const step = this.#stepOf({ step: line.step, update, skipped });
    this.#steps++;
    if (skipped === true) {
      this.#skippedSteps++;
      return;
    }
    const { preferences, validationPreferences } = line as Record<
      string,
      Record<string, unknown> | undefined
    >;
    // Of pairs, their loss takes the place of the cross-entropy, as it does in the validation.
    const crossEntropy = preferences?.loss ?? line.crossEntropy;
    const validationAccuracy = validationPreferences?.accuracy;
    const values: Record<string, unknown> = { ...line, ...preferences, crossEntropy, validationAccuracy };
    for (const name of VALUES) this.#curves.get(name)!.add(step, values[name]);
    if (isLoad(expertLoad)) this.#addLoad(step, expertLoad);
  }

  #addLoad(step: number, expertLoad: number[][]): void {
    const health = routerHealth(expertLoad.filter((shares) => shares.length > 0)) as Record<
      (typeof HEALTH)[number],
      number[]
    >;
    this.#curves.get('loadEntropy')!.add(step, Math.min(...health.loadEntropy));
    this.#curves.get('maxOverMean')!.add(step, Math.max(...health.maxOverMean));
    this.#curves.get('deadExperts')!.add(
      step,
      health.deadExperts.reduce((sum, n) => sum + n, 0),
    );
    this.#load.add(step, expertLoad);
  }

  build(): Pick<RunReport, 'steps' | 'skippedSteps' | 'curves' | 'load'> {
    const curves = Object.fromEntries(Array.from(this.#curves, ([name, builder]) => [name, builder.build()]));
    return {
      steps: this.#steps,
      skippedSteps: this.#skippedSteps,
      curves: curves as Record<CurveName, Curve>,
      load: this.#load.build(),
    };
  }
}

function isLoad(value: unknown): value is number[][] {
  const isShares = (layer: unknown) =>
    Array.isArray(layer) && layer.every((share) => typeof share === 'number');
  return Array.isArray(value) && value.every(isShares) && value.flat().length > 0;
}

const MOST_SAMPLES = 200;
const MOST_CHARACTERS = 4000;

/** Keeps every nth sample, and the last. */
class SampleReader {
  readonly #kept: RunSample[] = [];
  #last: RunSample | null = null;
  #seen = 0;
  #every = 1;

  add({ step, prompt, text }: Record<string, unknown>): void {
    if (typeof step !== 'number' || typeof text !== 'string') return;
    this.#last = { step, prompt: cut(typeof prompt === 'string' ? prompt : ''), text: cut(text) };
    if (this.#seen++ % this.#every !== 0) return;
    if (this.#kept.length === MOST_SAMPLES) {
      for (let i = 0; i < this.#kept.length; i += 2) this.#kept[i / 2] = this.#kept[i];
      this.#kept.length /= 2;
      this.#every *= 2;
      if ((this.#seen - 1) % this.#every !== 0) return;
    }
    this.#kept.push(this.#last);
  }

  build(): Pick<RunReport, 'samples' | 'samplesOmitted'> {
    const samples = [...this.#kept];
    if (this.#last !== null && this.#last !== samples.at(-1)) samples.push(this.#last);
    return { samples, samplesOmitted: this.#seen - samples.length };
  }
}

function cut(text: string): string {
  if (text.length <= MOST_CHARACTERS) return text;
  return `${text.slice(0, MOST_CHARACTERS)} ...`;
}
