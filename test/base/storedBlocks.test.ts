import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { widenBlocks } from '../../src/base/storedBlocks';
import { BLOCK_TYPE_NAMES, type BlockType, layoutOf } from '../../src/checkpoint/gguf/blockTypes';

const file = join(__dirname, '../fixtures/gguf/blocks.json');
const fixtures = JSON.parse(readFileSync(file, 'utf8')) as Record<
  string,
  { blocks: string; float32: string }
>;
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));

describe("blocks are widened to the bits that Python's gguf computes", () => {
  it('in every type', () => {
    expect([...Object.keys(fixtures), 'F32'].sort()).toEqual([...BLOCK_TYPE_NAMES].sort());
  });

  for (const [type, { blocks, float32 }] of Object.entries(fixtures)) {
    it(type, () => {
      const want = bytesOf(float32);
      const out = new Float32Array(want.length / 4);
      widenBlocks(layoutOf(type as BlockType).storage, bytesOf(blocks), out);
      expect(new Uint32Array(out.buffer)).toEqual(new Uint32Array(want.buffer));
    });
  }
});

it('a part of a block is refused', () => {
  expect(() => widenBlocks('q4_0', new Uint8Array(18), new Float32Array(31))).toThrow(RangeError);
  expect(() => widenBlocks('q4_0', new Uint8Array(17), new Float32Array(32))).toThrow(RangeError);
});
