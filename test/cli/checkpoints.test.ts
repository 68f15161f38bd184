import { cpSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Decoder, MoETransformer } from '../../src';
import { hfDir } from '../helpers/hfFixture';
import { smallModel } from '../helpers/smallModel';
import { sgemoe } from './run';

const folder = () => join(mkdtempSync(join(tmpdir(), 'sgemoe checkpoints-')), 'out');

describe('sgemoe import and export', () => {
  test('a folder of transformers becomes one of sgemoe, and that one of transformers again', async () => {
    const [imported, exported] = [folder(), folder()];
    const first = await sgemoe(['import', hfDir('olmoe'), '--out', imported]);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toMatch(/: [\d,]+ parameters\n$/);
    const second = await sgemoe(['export', imported, '--out', exported, '--dtype', 'bf16']);
    expect(second).toMatchObject({ code: 0, stdout: `${exported}: OlmoeForCausalLM, bf16\n`, stderr: '' });
    expect(JSON.parse(readFileSync(join(exported, 'config.json'), 'utf8')).torch_dtype).toBe('bfloat16');
  });

  test('ignored keys are listed', async () => {
    const [source, out] = [folder(), folder()];
    cpSync(hfDir('mixtral'), source, { recursive: true });
    const json = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
    writeFileSync(join(source, 'config.json'), JSON.stringify({ ...json, mystery: 1 }));
    const { stderr } = await sgemoe(['import', source, '--out', out]);
    expect(stderr).toBe('config.json: keys that are not known are ignored: mystery.\n');
    expect((await sgemoe(['inspect', source])).stdout).toMatch(/^note +config\.json: keys .* mystery\.$/m);
  });

  test('impossible requests are refused in a sentence, and nothing is written', async () => {
    const out = folder();
    const wrong = await sgemoe(['export', hfDir('olmoe'), '--out', out, '--architecture', 'mixtral']);
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toMatch(/can't be written as MixtralForCausalLM \(qkNorm full/);
    expect((await sgemoe(['export', hfDir('olmoe'), '--out', out, '--dtype', 'int8'])).code).toBe(2);
    expect((await sgemoe(['import', '/no/such', '--out', out])).code).toBe(2);
    expect((await sgemoe(['import', hfDir('olmoe')])).stderr).toMatch(/required option '--out/);
    expect(existsSync(out)).toBe(false);
  });
});

describe('sgemoe inspect', () => {
  test('tells of a folder of either kind', async () => {
    const dir = folder();
    await smallModel().save(dir);
    const ours = await sgemoe(['inspect', dir, '--tensors']);
    expect(ours.code).toBe(0);
    expect(ours.stdout).toMatch(/^format +sgemoe$/m);
    expect(ours.stdout).toMatch(/^parameters +[\d,]+ \([\d,]+ active\)$/m);
    expect(ours.stdout).toMatch(
      /^ {2}training +[\d.]+ kB \(weights [\d.]+ kB, gradients [\d.]+ kB, moments [\d.]+ kB, activations [\d.]+ kB\)$/m,
    );
    expect(ours.stdout).toMatch(/^ {2}generation +4\.22 kB of keys and values on top$/m);
    expect(ours.stdout).toMatch(/^lm_head\.weight +F32 +\[20, 16\]$/m);
    const theirs = await sgemoe(['inspect', hfDir('qwen2_moe'), '--batch', '2', '--seq-len', '10']);
    expect(theirs.stdout).toMatch(/^format +Hugging Face, Qwen2MoeForCausalLM$/m);
    expect(theirs.stdout).toMatch(/^shared_expert_intermediate_size +44$/m);
    expect(theirs.stdout).toMatch(/^mlp_only_layers +none$/m);
    const dense = await sgemoe(['inspect', hfDir('llama')]);
    expect(dense.stdout).toMatch(/^parameters +27,240 \(27,240 active\)$/m);
    expect(dense.stdout).toMatch(/^mlp_only_layers +0, 1$/m);
    expect(dense.stdout).toMatch(/^rope_scaling +rope_type llama3, factor 4, low_freq_factor 1, /m);
    expect(theirs.stdout).toMatch(/^memory for +batch 2, 10 tokens each$/m);
    expect(theirs.stdout).not.toMatch(/lm_head/);
  });

  test('--json is one object with every tensor', async () => {
    const { stdout } = await sgemoe(['inspect', hfDir('granitemoe'), '--json', '--dtype', 'float32']);
    const found = JSON.parse(stdout);
    expect(found).toMatchObject({ architecture: 'granitemoe', batch: 1, seqLen: 64, notes: [] });
    expect(found.config.logits_scaling).toBe(3);
    expect(found.tensors[0]).toMatchObject({ dtype: 'F16' });
    const model = await MoETransformer.load(hfDir('granitemoe'));
    const { shards, bufferData } = model.store;
    expect(found.memory.inference.weights).toBe(shards[0].byteLength + bufferData.byteLength);
    const decoder = new Decoder(model);
    expect(found.memory.keyValueCache).toBe(decoder.bytes.cache);
  });

  test('a length beyond the model is a usage error', async () => {
    const { code, stderr } = await sgemoe(['inspect', hfDir('mixtral'), '--seq-len', '65']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/at most maxSeqLen \(64\), got 65/);
  });
});
