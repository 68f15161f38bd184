/** Checkpoints whose matrices are rounded, written and read again. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ByteTokenizer,
  MoETransformer,
  quantizeCheckpoint,
  SafetensorsFile,
  writeSafetensors,
} from '../../src';
import { getKernels } from '../../src/backend';
import { createReferenceKernels } from '../../src/backend/reference';
import { BLOCK_TYPES_KEY } from '../../src/checkpoint/blockTensors';
import { loadCheckpoint } from '../../src/checkpoint/checkpoint';
import { sgemoe } from '../cli/run';
import { expectRelative, sameBits } from '../helpers/close';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { smallModel } from '../helpers/smallModel';

const folder = mkdtempSync(join(tmpdir(), 'sgemoe-quantize-'));
const [from, to] = [join(folder, 'from'), join(folder, 'to')];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MAPS = getKernels().memory.mapFile !== undefined;
const IDS = [1, 2, 3, 4, 5, 6, 7];
const logitsOf = (model: MoETransformer) => model.forwardIds(IDS, 1, IDS.length).data;
/** Rows of whole blocks of 32; a vocabulary and biases that are not. */
const model = smallModel({ hiddenDim: 64, headDim: 32, ffnDim: 96, sharedFfnDim: 32, attentionBias: 'qkvo' });
beforeAll(() => model.save(from, { generationConfig: { eos_token_id: 3 } }));

describe('a quantized checkpoint', () => {
  test.each(['q8_0', 'q4_0', 'q4_k', 'q4_k_m', 'bfloat16', 'float16', 'float32'] as const)(
    'in %s is the model that loads with that type',
    async (dtype) => {
      const { config, bytes } = await quantizeCheckpoint(from, to, { dtype });
      expect(config).toEqual(model.config);
      const want = await MoETransformer.load(from, { dtype });
      const stored = await MoETransformer.load(to, { dtype: 'stored' });
      expect(sameBits(logitsOf(stored), logitsOf(want))).toBe(true);
      expect(stored.generationConfig).toEqual({ eos_token_id: 3 });
      // Widened to float32, the numbers are the same: only the order of additions differs.
      const kernels = createReferenceKernels();
      const exact = await MoETransformer.load(to, { dtype: 'stored', kernels });
      expectRelative('logits', logitsOf(await MoETransformer.load(to, { kernels })), logitsOf(exact), 2e-5);
      const { tensors } = await loadCheckpoint(to);
      const sum = [...tensors.tensors.values()].reduce((all, { byteLength }) => all + byteLength, 0);
      await tensors.close();
      expect(bytes.after).toBe(sum);
    },
  );

  test.runIf(MAPS)(
    'stays in its file when it is loaded with its own type, rows of queries and keys included',
    async () => {
      await quantizeCheckpoint(hfDir('mixtral'), to, { dtype: 'bfloat16' });
      const { weightBytes, store } = await MoETransformer.load(to, { dtype: 'bfloat16' });
      expect(weightBytes.resident).toBe(store.weightBytes);
      expect(weightBytes.mapped).toBeGreaterThan(store.weightBytes);
    },
  );

  test('can be quantized again, and replaces itself', async () => {
    await quantizeCheckpoint(from, to, { dtype: 'q8_0' });
    await quantizeCheckpoint(to, to, { dtype: 'q4_0' });
    const { tensors } = await loadCheckpoint(to);
    expect(tensors.info('lm_head.weight')).toMatchObject({ dtype: 'Q4_0', shape: [20, 64] });
    await tensors.close();
  });

  test('is refused with a type that is none', async () => {
    const quantize = (dtype: unknown) => quantizeCheckpoint(from, to, { dtype: dtype as 'q8_0' });
    await expect(quantize('stored')).rejects.toThrow(/dtype must be float32, bfloat16/);
    await expect(quantize(undefined)).rejects.toThrow(TypeError);
  });
});

describe('block types in a safetensors file are checked before they are used', () => {
  const write = async (types: string, shape: number[]) => {
    const data = new Uint8Array(shape.reduce((product, n) => product * n, 1));
    const tensors = [{ name: 'lm_head.weight', dtype: 'U8' as const, shape, data }];
    await writeSafetensors(join(to, 'model.safetensors'), tensors, { [BLOCK_TYPES_KEY]: types });
  };
  const refused = (code: Parameters<typeof expectError>[0], message: RegExp) =>
    expectError(code, message, () => MoETransformer.load(to));

  test.each([
    ['{', [1, 34], 'SGEMOE_CHECKPOINT_HEADER', /block_types is not JSON/],
    ['[]', [1, 34], 'SGEMOE_CHECKPOINT_HEADER', /block_types must be an object/],
    ['{"lm_head.weight":"q3_k"}', [1, 34], 'SGEMOE_CHECKPOINT_DTYPE', /unknown block type "q3_k"/],
    ['{"other":"q8_0"}', [1, 34], 'SGEMOE_CHECKPOINT_MISSING_TENSOR', /no tensor "other"/],
    [
      '{"lm_head.weight":"q8_0"}',
      [1, 35],
      'SGEMOE_CHECKPOINT_SHAPE',
      /rows of whole q8_0 blocks \(34 bytes\)/,
    ],
    ['{"lm_head.weight":"q8_0"}', [34], 'SGEMOE_CHECKPOINT_SHAPE', /must be U8/],
  ] as const)('%s with %j', async (types, shape, code, message) => {
    await quantizeCheckpoint(from, to, { dtype: 'q8_0' });
    await write(types, [...shape]);
    await refused(code, message);
  });

  test('parts are read from any number on', async () => {
    await quantizeCheckpoint(from, to, { dtype: 'q8_0' });
    await using tensors = (await loadCheckpoint(to)).tensors;
    const name = 'model.embed_tokens.weight';
    const whole = (await tensors.read(name)) as Float32Array;
    const part = new Float32Array(70);
    await tensors.readPartInto(name, 31, part);
    expect(part).toEqual(whole.slice(31, 101));
    await expect(tensors.readPartInto(name, whole.length - 69, part)).rejects.toThrow(RangeError);
    await expectError('SGEMOE_CHECKPOINT_DTYPE', /can not be read into a Int32Array/, () =>
      tensors.readPartInto(name, 0, new Int32Array(1)),
    );
    await using raw = await SafetensorsFile.open(join(to, 'model.safetensors'));
    expect(raw.info(name)).toMatchObject({ dtype: 'U8', shape: [20, 68] });
  });
});

describe('on the command line', () => {
  const [bytes, book] = [join(folder, 'bytes'), join(folder, 'book.txt')];
  const run = async (...argv: string[]) => {
    const { code, stdout, stderr } = await sgemoe(argv);
    expect(code, stderr).toBe(0);
    return stdout;
  };
  beforeAll(async () => {
    writeFileSync(book, 'some words of a book, naïve and short. '.repeat(5));
    const model = smallModel({ hiddenDim: 64, headDim: 32, ffnDim: 96, vocabSize: 256 });
    await model.save(bytes, new ByteTokenizer().files());
    expect(await run('quantize', bytes, '--out', to, '--dtype', 'q4_0')).toMatch(
      /to: q4_0, [\d.]+ kB became [\d.]+ kB\n$/,
    );
  });

  test('generate and eval do the same with the written types as with --dtype while loading', async () => {
    const text = (dir: string, dtype: string) =>
      run('generate', dir, '--prompt', 'some', '--max-tokens', '12', '--seed', '1', '--dtype', dtype);
    expect(await text(to, 'stored')).toBe(await text(bytes, 'q4_0'));
    const lossOf = async (dir: string, dtype: string): Promise<number> =>
      JSON.parse(await run('eval', dir, '--data', book, '--json', '--dtype', dtype)).loss;
    const loss = await lossOf(to, 'stored');
    expect(loss).toBe(await lossOf(bytes, 'q4_0'));
    expect(loss).not.toBe(await lossOf(bytes, 'stored'));
  });

  test('inspect tells the types, and what is mapped', async () => {
    const { tensors, memory } = JSON.parse(await run('inspect', to, '--json'));
    expect(new Set(tensors.map(({ dtype }: { dtype: string }) => dtype))).toEqual(new Set(['F32', 'Q4_0']));
    expect(memory.mapped).toBeGreaterThan(0);
    expect(await run('inspect', to)).toMatch(/^ {2}mapped +[\d.]+ kB of the files/m);
  });
});
