/** Weights that are NaN or infinite are reported once, when they are loaded. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { exportHuggingFace, MoETransformer } from '../../src';
import { smallModel } from '../helpers/smallModel';

const newFolder = () => mkdtempSync(join(tmpdir(), 'not-finite-'));

async function notesOf(dir: string): Promise<string[]> {
  const notes: string[] = [];
  await MoETransformer.load(dir, { onNote: (note) => notes.push(note) });
  return notes;
}

describe('weights that are not finite', () => {
  test('one is named, with its place', async () => {
    const model = smallModel();
    model.parameter('model.norm.weight').data[5] = Number.NaN;
    const [ours, theirs] = [newFolder(), newFolder()];
    await model.save(ours);
    await exportHuggingFace(theirs, model, { dtype: 'bf16' });
    const note =
      'tensor "model.norm.weight" holds numbers that are not finite (element 5 of the first is NaN): ' +
      'neither is what the model computes with them.';
    expect(await notesOf(ours)).toEqual([note]);
    expect(await notesOf(theirs)).toEqual([note]);
  });

  test('several are told in one sentence', async () => {
    const model = smallModel();
    for (const layer of [0, 1]) {
      model.parameter(`model.layers.${layer}.self_attn.q_proj.weight`).data[0] = Number.NEGATIVE_INFINITY;
    }
    const dir = newFolder();
    await model.save(dir);
    expect(await notesOf(dir)).toEqual([
      expect.stringMatching(
        /^tensors ".*0.*q_proj.weight", ".*1.*q_proj.weight" hold .* first is -Infinity\)/,
      ),
    ]);
  });

  test('the largest numbers of float32 are finite, though their squares are not', async () => {
    const model = smallModel();
    model.parameter('model.norm.weight').data.fill(3.4e38);
    const dir = newFolder();
    await model.save(dir);
    expect(await notesOf(dir)).toEqual([]);
  });

  test('without a callback it is a process warning', async () => {
    const model = smallModel();
    model.parameter('lm_head.weight').data[1] = Number.POSITIVE_INFINITY;
    const dir = newFolder();
    await model.save(dir);
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
    await MoETransformer.load(dir);
    expect((await warned).message).toMatch(/^tensor "lm_head.weight" holds/);
  });
});
