import { expect, test } from 'vitest';
import { ModelConfig } from '../../src';
import { matrixTypeOf } from '../../src/config/matrixTypes';

/** The types of a matrix in each of 16 layers, [first letter of the type]. */
function typesOf(role: string, options = {}): string[] {
  const config = ModelConfig.tiny({ nLayers: 16, ...options });
  return Array.from({ length: config.nLayers }, (_, layer) =>
    matrixTypeOf('q4_k_m', `model.layers.${layer}.${role}.weight`, 256, config),
  );
}

const HALF = Array.from({ length: 16 }, (_, layer) =>
  [0, 1, 4, 7, 10, 13, 14, 15].includes(layer) ? 'q6_k' : 'q4_k',
);
const all = (type: string) => new Array(16).fill(type);

test('q4_k_m gives values and down projections of the first, the last and each third layer between Q6_K', () => {
  const four = { nExperts: 4 };
  expect(typesOf('self_attn.v_proj', four)).toEqual(HALF);
  expect(typesOf('block_sparse_moe.experts.3.w2', four)).toEqual(HALF);
  expect(typesOf('block_sparse_moe.shared_expert.w2', four)).toEqual(HALF);
  expect(
    typesOf('mlp.w2', {
      denseLayers: Array.from({ length: 16 }, (_, i) => i),
      denseFfnDim: 64,
      nExperts: 0,
      topKExperts: 0,
      ffnDim: 0,
    }),
  ).toEqual(HALF);
  for (const role of ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.o_proj', 'mlp.w1', 'mlp.w3']) {
    expect(typesOf(role, four), role).toEqual(all('q4_k'));
  }
});

test('q4_k_m gives attention more bits in a mixture of 8 experts', () => {
  const eight = { nExperts: 8 };
  expect(typesOf('self_attn.k_proj', eight)).toEqual(all('q8_0'));
  expect(typesOf('self_attn.v_proj', eight)).toEqual(all('q8_0'));
  expect(typesOf('self_attn.o_proj', eight)).toEqual(all('q5_k'));
  expect(typesOf('self_attn.q_proj', eight)).toEqual(all('q4_k'));
  expect(typesOf('block_sparse_moe.experts.0.w2', eight)).toEqual(HALF);
});

test('q4_k_m gives the matrix of the logits Q6_K, and rows of other lengths smaller blocks', () => {
  const tied = ModelConfig.tiny({ tieEmbeddings: true });
  const untied = ModelConfig.tiny({ tieEmbeddings: false });
  const type = (name: string, config: ModelConfig, cols = 256) => matrixTypeOf('q4_k_m', name, cols, config);
  expect(type('model.embed_tokens.weight', tied)).toBe('q6_k');
  expect(type('model.embed_tokens.weight', untied)).toBe('q4_k');
  expect(type('lm_head.weight', untied)).toBe('q6_k');
  expect(type('lm_head.weight', untied, 96)).toBe('q8_0');
  expect(type('model.embed_tokens.weight', untied, 96)).toBe('q5_0');
  expect(type('model.embed_tokens.weight', untied, 90)).toBe('float16');
});

test('a single type holds for every matrix', () => {
  const config = ModelConfig.tiny();
  expect(matrixTypeOf('q5_k', 'lm_head.weight', 512, config)).toBe('q5_k');
  expect(matrixTypeOf('q5_k', 'model.layers.0.self_attn.v_proj.weight', 64, config)).toBe('q5_1');
});
