import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SafetensorsFile } from '../../src/checkpoint/safetensors';

/** One case of float64 oracle data; test/fixtures/README.md says what each name is. */
export interface Fixture {
  name: string;
  dir: string;
  /** config.json */
  config: Record<string, number>;
  tensors: Map<string, { shape: readonly number[]; data: ArrayLike<number> }>;
  train: {
    train_config: Record<string, number>;
    steps: {
      step: number;
      lr: number;
      loss: number;
      cross_entropy: number;
      aux: number[];
      grad_norm: number;
    }[];
    after: { loss: number; cross_entropy: number; aux: number[] };
  };
  greedy: { prompt: number[]; tokens: number[]; best_logit: number[] } | null;
}

const HERE = resolve(__dirname, '../fixtures');
const SHARED = resolve(__dirname, '../../../shared/fixtures');

/** The folders of the cases at hand: two in the repository, larger ones only where they lie beside it. */
export function fixtureDirs(): string[] {
  const dirs = ['micro', 'gqa'].map((name) => join(HERE, name));
  const tiny = join(SHARED, 'tiny');
  return existsSync(tiny) ? [...dirs, tiny] : dirs;
}

export async function loadFixture(dir: string): Promise<Fixture> {
  const file = await SafetensorsFile.open(join(dir, 'tensors.safetensors'));
  const tensors: Fixture['tensors'] = new Map();
  for (const [name, info] of file.tensors) {
    const data = await file.read(name);
    const numbers = data instanceof BigInt64Array ? Array.from(data, Number) : (data as Float32Array);
    tensors.set(name, { shape: info.shape, data: numbers });
  }
  await file.close();
  const json = (name: string) => JSON.parse(readFileSync(join(dir, name), 'utf8'));
  const greedy = existsSync(join(dir, 'greedy.json')) ? json('greedy.json') : null;
  return {
    name: dir.split('/').pop()!,
    dir,
    config: json('config.json'),
    tensors,
    train: json('train.json'),
    greedy,
  };
}
