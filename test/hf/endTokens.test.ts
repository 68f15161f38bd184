/** Tokens that end a text: `eos_token_id` of config.json and generation_config.json, an id or a list. */
import { cpSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  ByteTokenizer,
  exportCheckpoint,
  exportHuggingFace,
  generateTokens,
  importCheckpoint,
  MoETransformer,
  resumeTraining,
  saveTraining,
  Trainer,
} from '../../src';
import { sgemoe } from '../cli/run';
import { expectError } from '../helpers/expectError';
import { hfDir } from '../helpers/hfFixture';
import { smallModel } from '../helpers/smallModel';

type Json = Record<string, unknown>;

const newFolder = () => join(mkdtempSync(join(tmpdir(), 'ends-')), 'model');
const read = (dir: string, name: string): Json => JSON.parse(readFileSync(join(dir, name), 'utf8'));
const write = (dir: string, name: string, json: Json) => writeFileSync(join(dir, name), JSON.stringify(json));

/** A checkpoint of Hugging Face's, with these keys of its two files. */
function theirs(config: Json, generation: Json | null): string {
  const dir = newFolder();
  cpSync(hfDir('mixtral'), dir, { recursive: true });
  write(dir, 'config.json', { ...read(dir, 'config.json'), ...config });
  if (generation !== null) write(dir, 'generation_config.json', generation);
  return dir;
}

/** A checkpoint of sgemoe, with this generation_config.json. */
async function ours(generation: Json): Promise<string> {
  const dir = newFolder();
  await smallModel({ vocabSize: 256 }).save(dir);
  write(dir, 'generation_config.json', generation);
  return dir;
}

/** Loads a folder, and with it the notes. */
async function load(dir: string) {
  const notes: string[] = [];
  const model = await MoETransformer.load(dir, { onNote: (note) => notes.push(note) });
  return { model, notes };
}

describe('loading', () => {
  test.each<[Json, Json, number[]]>([
    [{ eos_token_id: 2 }, {}, [2]],
    [{ eos_token_id: [2, 5] }, {}, [2, 5]],
    [{ eos_token_id: null }, { eos_token_id: [7, 2, 7] }, [7, 2]],
    [{ eos_token_id: [2, 5] }, { eos_token_id: [5, 9] }, [2, 5, 9]],
    [{}, { eos_token_id: null }, []],
    [{}, { eos_token_id: [] }, []],
  ])('config.json with %j and generation_config.json with %j end by %j', async (config, generation, ends) => {
    const { model, notes } = await load(theirs(config, generation));
    expect(model.endTokens).toEqual(ends);
    expect(notes).toEqual([]);
  });

  test('without a generation_config.json too', async () => {
    const dir = newFolder();
    await exportHuggingFace(dir, smallModel());
    write(dir, 'config.json', { ...read(dir, 'config.json'), eos_token_id: [3, 4] });
    expect(existsSync(join(dir, 'generation_config.json'))).toBe(false);
    expect((await load(dir)).model.endTokens).toEqual([3, 4]);
  });

  test('a checkpoint of sgemoe lists them in generation_config.json', async () => {
    expect((await load(await ours({ eos_token_id: [0, 1] }))).model.endTokens).toEqual([0, 1]);
    expect(smallModel().endTokens).toEqual([]);
  });

  test('ids that the model does not have end nothing, which is noted', async () => {
    const { model, notes } = await load(theirs({ eos_token_id: -1 }, { eos_token_id: [1, 71, 2 ** 40] }));
    expect(model.endTokens).toEqual([1]);
    expect(notes).toEqual([
      "config.json: eos_token_id -1 ends nothing: the model's tokens are 0 to 70.",
      "generation_config.json: eos_token_id 71, 1099511627776 ends nothing: the model's tokens are 0 to 70.",
    ]);
  });

  test.each<unknown>(['</s>', 1.5, true, {}, [[1]], ['1'], [null]])(
    'an end of %j is refused',
    async (value) => {
      const wanted = /eos_token_id must be a token id, a list of them or null, got/;
      const refuse = (dir: string) => expectError('SGEMOE_CONFIG_INVALID', wanted, () => load(dir));
      await refuse(theirs({ eos_token_id: value }, {}));
      await refuse(theirs({}, { eos_token_id: value }));
      await refuse(await ours({ eos_token_id: value }));
    },
  );

  test('a generation_config.json that is no JSON object is refused', async () => {
    for (const text of ['{', '[]', 'null']) {
      const dir = await ours({});
      writeFileSync(join(dir, 'generation_config.json'), text);
      await expectError('SGEMOE_CONFIG_INVALID', /generation_config\.json/, () => load(dir));
    }
  });
});

describe('keeping', () => {
  const generation = { temperature: 0.6, eos_token_id: [7, 2], transformers_version: '4.57' };

  test('import and export carry the union and every other key', async () => {
    const [imported, exported] = [newFolder(), newFolder()];
    await importCheckpoint(theirs({ eos_token_id: 9 }, generation), imported);
    expect(read(imported, 'generation_config.json')).toEqual({ ...generation, eos_token_id: [9, 7, 2] });
    await exportCheckpoint(imported, exported);
    expect(read(exported, 'generation_config.json')).toEqual({ ...generation, eos_token_id: [9, 7, 2] });
    expect(read(exported, 'config.json').eos_token_id).toEqual([9, 7, 2]);
    expect((await load(exported)).model.endTokens).toEqual([9, 7, 2]);
  });

  test("an export's list has the tokenizer's end too; a single one is written as an id", async () => {
    const tokenizer = { added_tokens: [{ id: 3, content: '</s>' }] };
    const tokenizerConfig = { eos_token: '</s>' };
    const written = async (dir: string, to = newFolder()) => {
      const { model } = await load(dir);
      await exportHuggingFace(to, model, { tokenizer, tokenizerConfig });
      return [read(to, 'config.json').eos_token_id, read(to, 'generation_config.json').eos_token_id];
    };
    expect(await written(theirs({}, generation))).toEqual([
      [7, 2, 3],
      [7, 2, 3],
    ]);
    expect(await written(theirs({ eos_token_id: 3 }, {}))).toEqual([3, 3]);
    const plain = newFolder();
    await exportHuggingFace(plain, smallModel(), { tokenizer, tokenizerConfig });
    expect(read(plain, 'config.json').eos_token_id).toBe(3);
    expect(existsSync(join(plain, 'generation_config.json'))).toBe(false);
  });

  test('save, a training and its resumption keep them; a caller may give others', async () => {
    const { model } = await load(await ours(generation));
    const [saved, trained, changed] = [newFolder(), newFolder(), newFolder()];
    await model.save(saved);
    expect(read(saved, 'generation_config.json')).toEqual(generation);
    await saveTraining(trained, new Trainer(model));
    expect((await resumeTraining(trained)).trainer.model.endTokens).toEqual([7, 2]);
    await model.save(changed, { generationConfig: { eos_token_id: 4 } });
    expect((await load(changed)).model.endTokens).toEqual([4]);
    const wrong = { generationConfig: { eos_token_id: 'x' } };
    await expectError('SGEMOE_CONFIG_INVALID', /got "x"/, () => model.save(newFolder(), wrong));
    await expectError('SGEMOE_CONFIG_INVALID', /got "x"/, () => exportHuggingFace(newFolder(), model, wrong));
  });

  test('a model made from a shared one ends as that does', async () => {
    const { model } = await load(await ours(generation));
    expect(MoETransformer.fromShared(model.share()).endTokens).toEqual([7, 2]);
  });
});

describe('generating', () => {
  /** Chooses 4, 5, 6 ... whatever the logits are. */
  const counting = () => {
    let token = 4;
    return { pickToken: () => token++ };
  };

  test('model.generate and generateTokens stop in front of an end', async () => {
    const { model } = await load(await ours({ eos_token_id: [2, 7] }));
    expect(model.generate([1], 10, counting())).toEqual([1, 4, 5, 6]);
    expect([...generateTokens(model, [1], 10, counting())]).toEqual([4, 5, 6]);
    model.freeze();
    expect(model.generate([1], 10, counting())).toEqual([1, 4, 5, 6]);
  });

  test('endTokens gives others, or none', async () => {
    const { model } = await load(await ours({ eos_token_id: 7 }));
    expect(model.generate([1], 6, counting(), { endTokens: [] })).toEqual([1, 4, 5, 6, 7, 8]);
    expect(model.generate([1], 9, counting(), { endTokens: [5] })).toEqual([1, 4]);
    expect(() => model.generate([1], 9, counting(), { endTokens: 5 as never })).toThrow(TypeError);
  });

  test('sgemoe generate stops at any of them', async () => {
    const dir = newFolder();
    await smallModel({ vocabSize: 256 }).save(dir, new ByteTokenizer().files());
    write(dir, 'generation_config.json', { eos_token_id: [97, 98] });
    const run = (token: number) => {
      const argv = ['generate', dir, '--prompt', 'x', '--temperature', '0', '--max-tokens', '5'];
      return sgemoe([...argv, '--logit-bias', `${token}=100`]);
    };
    for (const token of [97, 98]) expect((await run(token)).stdout).toBe('');
    expect((await run(99)).stdout).toBe('ccccc');
  });
});
