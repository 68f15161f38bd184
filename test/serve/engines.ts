import type { Worker } from 'node:worker_threads';
import type { EngineOptions, ModelConfigOptions } from '../../src';
import { built } from '../helpers/built';
import { SMALL } from '../helpers/smallModel';

export const { ByteTokenizer, Engine, MoETransformer, Sampler, Tensor } = built;

/** A model of bytes that is small enough for any backend. */
export function byteModel(overrides: Partial<ModelConfigOptions> = {}) {
  return MoETransformer.create({ ...SMALL, vocabSize: 256, maxSeqLen: 128, ...overrides }, { seed: 1 });
}

export function openEngine(options: EngineOptions = {}, overrides: Partial<ModelConfigOptions> = {}) {
  return Engine.create(byteModel(overrides), new ByteTokenizer(), options);
}

export const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Collects the workers that are started from now on, in order. */
export function workersStarted(): Worker[] {
  const workers: Worker[] = [];
  process.on('worker', (worker) => workers.push(worker as Worker));
  return workers;
}
