import { STORAGE_TYPE_NAMES, type StorageType, storageTypeFor } from '../base/storageTypes';
import type { ModelConfig } from './modelConfig';

/**
 * What the matrices of a model are rounded to: one type for all, or llama.cpp's mixture `q4_k_m`, which has Q4_K where
 * errors harm little.
 */
export type MatrixTypes = StorageType | 'q4_k_m';
export const MATRIX_TYPES: readonly MatrixTypes[] = [...STORAGE_TYPE_NAMES, 'q4_k_m'];

/** The type of the matrix [rows,cols] with this public name; where `cols` isn't whole blocks, the one that llama.cpp takes. */
export function matrixTypeOf(
  types: MatrixTypes,
  name: string,
  cols: number,
  config: ModelConfig,
): StorageType {
  return storageTypeFor(types === 'q4_k_m' ? typeInMixture(name, config) : types, cols);
}

/**
 * Q6_K for the matrix of the logits and, in half of the layers, for values and down projections; else Q4_K. A mixture of 8
 * experts has so small a share of attention weights that keys, values and outputs get more bits.
 */
function typeInMixture(name: string, { nExperts, nLayers, tieEmbeddings }: ModelConfig): StorageType {
  if (name === (tieEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight')) return 'q6_k';
  const [, layer, role] = MATRIX_OF_LAYER.exec(name) ?? [];
  if (nExperts === 8) {
    if (role === 'k_proj' || role === 'v_proj') return 'q8_0';
    if (role === 'o_proj') return 'q5_k';
  }
  return (role === 'v_proj' || role === 'w2') && getsMoreBits(Number(layer), nLayers) ? 'q6_k' : 'q4_k';
}

/** In the names of matrices, which are Mixtral's, w2 is the down projection. */
const MATRIX_OF_LAYER = /^model\.layers\.(\d+)\.(?:.*\.)?(\w+)\.weight$/;

/** Whether a layer is among the first or last eighth, or each third of the others. */
function getsMoreBits(layer: number, nLayers: number): boolean {
  const eighth = Math.floor(nLayers / 8);
  return layer < eighth || layer >= Math.floor((7 * nLayers) / 8) || (layer - eighth) % 3 === 2;
}
