import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SafetensorsFile } from '../../src';
import { isRotated, neighboursRow } from '../../src/checkpoint/ropePairs';
import { ARCHITECTURES, type Architecture } from '../../src/hf/architectures';

const HERE = resolve(__dirname, '../fixtures/hf');

/** A checkpoint written by `transformers`, with what it computes: test/fixtures/hf/README.md. */
export interface HfFixture {
  dir: string;
  config: Record<string, unknown>;
  /** The same model as version 4 writes it. */
  configV4: Record<string, unknown>;
  expected: Map<string, { shape: readonly number[]; data: ArrayLike<number> }>;
  loss: number;
  gradNorm: number;
}

/** The fixtures: one of each architecture, and one more. */
export type HfName = Architecture | 'qwen3_moe_dense';
export const HF_NAMES: readonly HfName[] = [...ARCHITECTURES, 'qwen3_moe_dense'];

export const hfDir = (name: HfName) => join(HERE, name);

export async function loadHfFixture(name: HfName): Promise<HfFixture> {
  const dir = hfDir(name);
  const json = (name: string) => JSON.parse(readFileSync(join(dir, name), 'utf8'));
  const expected: HfFixture['expected'] = new Map();
  await using file = await SafetensorsFile.open(join(dir, 'expected.safetensors'));
  for (const [name, { shape }] of file.tensors) {
    const data = await file.read(name);
    expected.set(name, {
      shape,
      data: data instanceof BigInt64Array ? Array.from(data, Number) : (data as Float32Array),
    });
  }
  const { loss, grad_norm: gradNorm } = json('expected.json');
  return { dir, config: json('config.json'), configV4: json('config.v4.json'), expected, loss, gradNorm };
}

/** Values of one of our parameters in the order of theirs: rows of queries and keys in halves. */
export function inTheirOrder(
  name: string,
  shape: readonly number[],
  data: Float32Array,
  headDim: number,
): Float32Array {
  if (!isRotated(name)) return data;
  const cols = shape[1] ?? 1;
  const result = new Float32Array(data.length);
  for (let row = 0; row < shape[0]; row++) {
    const from = neighboursRow(row, headDim) * cols;
    result.set(data.subarray(from, from + cols), row * cols);
  }
  return result;
}
