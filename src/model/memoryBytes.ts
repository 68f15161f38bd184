import { checkInteger, checkOptions } from '../base/checks';
import type { ModelConfig } from '../config/modelConfig';

const BYTES = 4;

/** What a model's buffers take, in bytes. Scratch of the kernels (some MB at most), results and Node itself come on top. */
export interface MemoryBytes {
  weights: number;
  /** 0 unless training. */
  gradients: number;
  /** AdamW's two moments; 0 unless training. */
  moments: number;
  /** The workspace: what the layers hand on and, in training, keep for the backward. */
  activations: number;
  /** weights + gradients + moments + activations. */
  total: number;
}

export interface MemoryOptions {
  /** Sequences in a batch, B. With gradAccumulationSteps: those of one part. */
  batch: number;
  /** Tokens in a sequence, S. */
  seq: number;
  /** 'forward': logits; 'loss': evaluation; 'train': a train step. Default 'train'. */
  mode?: 'forward' | 'loss' | 'train';
  /** With 'train': as the TrainConfig's. Default false. */
  gradientCheckpointing?: boolean;
}

/**
 * The memory of a model that works on batches of T = batch * seq tokens, before it exists:
 * 4 P bytes of weights (P = config.totalParams()), in training 4 P of gradients and 8 P of moments, and activations of
 *
 * - 4 T (L + 1) (H + b) bytes in training, L blocks, b = what a block keeps of a token (`keptPerToken`), and what the
 *   backward needs meanwhile; with gradientCheckpointing 4 T ((L + 1) H + b) and that, since the blocks share one place;
 *   4 T (2 H + b) without a backward;
 * - 4 T V for logits and their gradient, in 'loss' and 'train'.
 *
 * Within a few per cent of the buffers' sizes; they are padded to 64 bytes, and a workspace that had to grow may be up
 * to half larger. `model.packedBytes` of a frozen model comes on top.
 * @throws TypeError or RangeError for a batch or seq that isn't a positive integer, an unknown mode.
 */
export function memoryBytes(config: ModelConfig, options: MemoryOptions): MemoryBytes {
  checkOptions('memoryBytes', options, ['batch', 'seq', 'mode', 'gradientCheckpointing']);
  const { batch, seq, mode = 'train', gradientCheckpointing = false } = options;
  checkInteger('memoryBytes: batch', batch, 1);
  checkInteger('memoryBytes: seq', seq, 1);
  if (mode !== 'forward' && mode !== 'loss' && mode !== 'train') {
    throw new RangeError(`memoryBytes: mode must be 'forward', 'loss' or 'train', got ${String(mode)}`);
  }
  const weights = BYTES * config.totalParams();
  const gradients = mode === 'train' ? weights : 0;
  const moments = 2 * gradients;
  const activations = BYTES * batch * seq * activationsPerToken(config, mode, gradientCheckpointing);
  return { weights, gradients, moments, activations, total: weights + gradients + moments + activations };
}

/** Numbers (float32 and int32 alike) that a pass needs for each token. */
function activationsPerToken(
  config: ModelConfig,
  mode: 'forward' | 'loss' | 'train',
  recompute: boolean,
): number {
  const { hiddenDim: H, nLayers: L, vocabSize: V } = config;
  const kept = keptPerToken(config);
  // Ids and positions, the final norm, and with a loss: targets, losses and logits.
  const ends = 2 + (H + 1) + (mode === 'forward' ? 0 : V + 2);
  if (mode !== 'train') return 2 * H + kept + ends;
  return (L + 1) * H + (recompute ? 1 : L) * kept + 2 * H + backwardPerToken(config) + ends;
}

/** What a block writes for each token, all of which its backward reads: attention, two norms, experts, router. */
function keptPerToken(config: ModelConfig): number {
  const { hiddenDim: H, nHeads, nExperts: E, topKExperts: K, ffnDim: F, sharedFfnDim: S } = config;
  const { queryDim, kvDim, qkNorm } = config;
  const normed =
    qkNorm === 'none' ? 0 : queryDim + kvDim + (qkNorm === 'full' ? 2 : nHeads + config.nKvHeads);
  const attention =
    queryDim + 2 * kvDim + normed + queryDim + nHeads + (config.attentionBias === 'none' ? 0 : 1);
  const router = 2 * E + 1 + 4 * K;
  const experts = K * (2 * H + 3 * F);
  const shared = S > 0 ? 3 * S + H + 2 : 0;
  return attention + 3 * H + 2 + router + experts + shared;
}

/** What the backward of a block needs meanwhile, once for all blocks. */
function backwardPerToken(config: ModelConfig): number {
  const { hiddenDim: H, nExperts: E, topKExperts: K, ffnDim: F, sharedFfnDim: S, queryDim, kvDim } = config;
  const normed = config.qkNorm === 'none' ? 0 : queryDim + kvDim;
  const shared = S > 0 ? 3 * S + H + 1 : 0;
  return 2 * queryDim + 2 * kvDim + normed + E + K * (H + 3 * F + 1) + shared + H;
}
