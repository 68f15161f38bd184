import type { KernelMemory } from '../backend/kernelMemory';
import { checkFactor, checkInteger } from '../base/checks';
import type { AttentionBiasKind, QueryKeyNormKind } from '../config/modelConfig';
import type { RopeScaling } from '../config/ropeScaling';
import type { CacheLayer } from '../memory/cacheLayer';
import type { CachedSequences } from '../memory/keyValueCache';
import type { IndexView, MatrixView } from '../memory/matrixView';
import {
  type AttentionGradients,
  type AttentionRun,
  type AttentionViews,
  attention,
  attentionBackward,
  rope,
} from '../memory/operations/attention';
import type { Parameter } from '../memory/parameters';
import { type Bias, type Ones, planOnes } from '../memory/weight';
import type { Planner } from '../memory/workspace';
import { Layer, type LayerOptions } from './layer';
import { Projection, type ProjectionScratch, type ProjectionSlots } from './projection';
import { type QueriesAndKeys, QueryKeyNorm, type QueryKeyNormSlots } from './queryKeyNorm';
import { ropeAttentionFactor, ropeFrequencies } from './ropeFrequencies';

/**
 * Rotary angles (Su et al. 2021, eq. 15; NTK scaling is in the base): row p, column i of [positions, D/2] holds cos and
 * sin of p f_i, f_i = base^(-2i/D), or what `scaling` makes of it; YaRN multiplies both by its attentionFactor. Rows are
 * computed once and kept; the table doubles when a longer sequence arrives.
 */
export class RopeTable {
  cos: Float32Array;
  sin: Float32Array;
  length = 0;

  constructor(
    readonly headDim: number,
    readonly base: number,
    private readonly memory: Pick<KernelMemory, 'floats'>,
    readonly scaling: RopeScaling | null = null,
  ) {
    this.cos = this.sin = memory.floats(0);
  }

  /** Frequencies f_i, i in [0, D/2). */
  frequencies(): number[] {
    return ropeFrequencies(this.headDim, this.base, this.scaling);
  }

  /** Makes positions [0, length) available. */
  ensure(length: number): void {
    if (length <= this.length) return;
    const rows = Math.max(length, 2 * this.length);
    const frequencies = this.frequencies();
    const pairs = frequencies.length;
    const size = ropeAttentionFactor(this.scaling);
    this.cos = this.memory.floats(rows * pairs);
    this.sin = this.memory.floats(rows * pairs);
    for (let p = 0; p < rows; p++) {
      for (let i = 0; i < pairs; i++) {
        this.cos[p * pairs + i] = size * Math.cos(p * frequencies[i]);
        this.sin[p * pairs + i] = size * Math.sin(p * frequencies[i]);
      }
    }
    this.length = rows;
  }
}

/** The positions of a batch's tokens in the kernels' form, shared by all layers of a model. */
export interface SequenceSlots {
  batch: number;
  seq: number;
  /** A bound: all positions are below it. */
  reach: number;
  /** [T] position of each token: 0..S-1 for each sequence; after a past, the positions that follow it. */
  positions: IndexView;
  /** [B] length of each sequence's past; 0 without one. B counts the samples where rows hold several. */
  queryStarts: IndexView;
  /** [B] number of each sequence's keys: S plus its past. */
  kvLengths: IndexView;
  /** The B sequences without a past: one run, or as many as neighbouring samples differ in length. */
  runs: AttentionRun[];
  /**
   * The cache with the past's keys and values, and the assignment of the T tokens to sequences (B and S then don't
   * count); or null.
   */
  cached: CachedSequences | null;
}

/**
 * Reserves the positions.
 * @param cached the sequences with a past, whose positions `fillSequence` doesn't know.
 * @param samples the largest number of samples that the tokens may belong to, for `fillSamples`. Default: `batch`.
 */
export function planSequence(
  planner: Planner,
  batch: number,
  seq: number,
  cached: CachedSequences | null = null,
  samples = batch,
): SequenceSlots {
  return {
    batch,
    seq,
    reach: cached?.cache.contextLength ?? seq,
    positions: planner.ints(batch * seq),
    queryStarts: planner.ints(samples),
    kvLengths: planner.ints(samples),
    runs: [{ sequence: 0, token: 0, sequences: batch, newTokens: seq, kvRow: 0, kvRows: seq }],
    cached,
  };
}

export function fillSequence({ batch, seq, positions, queryStarts, kvLengths }: SequenceSlots): void {
  const { data: ints } = positions;
  for (let b = 0; b < batch; b++) {
    ints[queryStarts.at + b] = 0;
    ints[kvLengths.at + b] = seq;
    for (let i = 0; i < seq; i++) ints[positions.at + b * seq + i] = i;
  }
}

export interface AttentionSlots {
  products: { qkv: ProjectionSlots; out: ProjectionSlots };
  sequence: SequenceSlots;
  /** [T, (nHeads + 2 nKvHeads) D] q|k|v; q and k are rotated, or with a norm still unnormed. */
  qkv: MatrixView;
  /** The queries and keys of qkv. */
  projected: QueriesAndKeys;
  /** [T, (nHeads + nKvHeads) D] q|k, normed and rotated; without a norm a part of qkv. */
  qk: MatrixView;
  invRms: QueryKeyNormSlots | null;
  /** Ones for the biases; null without biases. */
  ones: Ones | null;
  /** q and k of qk, v of qkv, out [T, nHeads D] and lse [B, nHeads, S]. */
  heads: AttentionViews;
  /** The layer's keys and values in the cache; null without a cache. */
  inCache: CacheLayer | null;
}

/** The same slots for another layer of a model, with that layer's keys and values of the cache. */
export function atLayer(slots: AttentionSlots, { cache }: CachedSequences, layer: number): AttentionSlots {
  return { ...slots, inCache: cache.layers[layer] };
}

export interface AttentionScratch {
  products: { qkv: ProjectionScratch; out: ProjectionScratch };
  /** [T, (nHeads + 2 nKvHeads) D] gradient of qkv */
  dQkv: MatrixView;
  /** The queries and keys of dQkv. */
  dProjected: QueriesAndKeys;
  /** [T, (nHeads + nKvHeads) D] gradient of qk; without a norm a part of dQkv */
  dQk: MatrixView;
  /** The queries and keys of dQk. */
  dNormed: QueriesAndKeys;
  /** dOut [T, nHeads D], dQ and dK of dQk, dV of dQkv */
  heads: AttentionGradients;
}

export interface AttentionDims {
  hiddenDim: number;
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  /** The norm of queries and keys. Default 'none'. */
  qkNorm?: QueryKeyNormKind | undefined;
  /** Added to the mean square in the norms of queries and keys. Default 1e-6. */
  rmsNormEps?: number | undefined;
  /** The projections that have a bias. Default 'none'. */
  attentionBias?: AttentionBiasKind | undefined;
  /** Factor c of the scores, a number > 0. Default null, which means 1/sqrt(D). */
  attentionMultiplier?: number | null | undefined;
  /** Factor r of the output, a number > 0. Default 1. */
  residualMultiplier?: number | undefined;
}

/**
 * Causal multi- and grouped-query self-attention with rotary positions (Vaswani et al. 2017; Shazeer 2019; Ainslie
 * et al. 2023): q|k|v = x Wqkv^T (+ b); q, k normed if asked for, then rotated; out_h = softmax(c q_h k^T) v;
 * y = r ([out_0 .. out_n] Wo^T (+ b_o)). Query head h reads kv head floor(h / (nHeads/nKvHeads)).
 * Parameters: q_proj [nHeads D, H], k_proj, v_proj [nKvHeads D, H] (one matrix in memory), o_proj [H, nHeads D],
 * their biases, q_norm, k_norm. Backward: docs/gradients/attention.md
 */
export class MQAttention extends Layer<AttentionSlots, AttentionScratch> {
  readonly qProj: Parameter;
  readonly kProj: Parameter;
  readonly vProj: Parameter;
  readonly oProj: Parameter;
  readonly rope: RopeTable;
  readonly #qkv: Projection;
  readonly #out: Projection;
  readonly #qkvBias: Bias | null;
  readonly #outBias: Bias | null;
  readonly #norm: QueryKeyNorm | null;
  readonly #scale: number;
  readonly #outScale: number;

  /** @param options.rope shared table of angles. Default: a new one with base 10000. */
  constructor(
    readonly dims: AttentionDims,
    options: LayerOptions & { rope?: RopeTable | undefined } = {},
  ) {
    super(dims?.hiddenDim, dims?.hiddenDim, options, ['rope']);
    const { hiddenDim: H, nHeads, nKvHeads, headDim: D } = dims;
    for (const name of ['nHeads', 'nKvHeads', 'headDim'] as const)
      checkInteger(`MQAttention: ${name}`, dims[name], 1);
    if (D % 2 !== 0) throw new RangeError(`MQAttention: headDim must be even (rotary pairs), got ${D}`);
    if (nHeads % nKvHeads !== 0) {
      throw new RangeError(`MQAttention: nKvHeads (${nKvHeads}) must divide nHeads (${nHeads})`);
    }
    const prefix = options.prefix ?? '';
    const qDim = nHeads * D;
    const kvDim = nKvHeads * D;
    const { store } = this;
    const qkv = store.addMatrix(qDim + 2 * kvDim, H);
    const out = store.addMatrix(H, qDim);
    this.qProj = store.expose(`${prefix}q_proj.weight`, [qDim, H], qkv);
    this.kProj = store.expose(`${prefix}k_proj.weight`, [kvDim, H], qkv, qDim * H);
    this.vProj = store.expose(`${prefix}v_proj.weight`, [kvDim, H], qkv, (qDim + kvDim) * H);
    this.oProj = store.expose(`${prefix}o_proj.weight`, [H, qDim], out);
    const part = (name: string, rows: number) => ({ name: prefix + name, rows });
    const qkvParts = [part('q_proj', qDim), part('k_proj', kvDim), part('v_proj', kvDim)];
    this.#qkv = new Projection(store, qkv, qkvParts);
    this.#out = new Projection(store, out, [part('o_proj', H)]);
    const {
      qkNorm = 'none',
      attentionBias = 'none',
      attentionMultiplier = null,
      residualMultiplier = 1,
    } = dims;
    this.#qkvBias = attentionBias === 'none' ? null : this.#addBias(prefix);
    this.#outBias = attentionBias === 'qkvo' ? store.addBias(H) : null;
    if (this.#outBias) store.expose(`${prefix}o_proj.bias`, [H], this.#outBias);
    this.#norm = qkNorm === 'none' ? null : new QueryKeyNorm(qkNorm, dims, store, prefix);
    this.rope = options.rope ?? new RopeTable(D, 10000, this.kernels.memory);
    this.#scale = attentionMultiplier ?? 1 / Math.sqrt(D);
    this.#outScale = residualMultiplier;
    checkFactor('MQAttention: attentionMultiplier', this.#scale);
    checkFactor('MQAttention: residualMultiplier', this.#outScale);
    this.built();
  }

  #addBias(prefix: string): Bias {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const qDim = nHeads * D;
    const kvDim = nKvHeads * D;
    const bias = this.store.addBias(qDim + 2 * kvDim);
    this.store.expose(`${prefix}q_proj.bias`, [qDim], bias);
    this.store.expose(`${prefix}k_proj.bias`, [kvDim], bias, qDim);
    this.store.expose(`${prefix}v_proj.bias`, [kvDim], bias, qDim + kvDim);
    return bias;
  }

  /** The columns q, k and v of a matrix [T, (nHeads + 2 nKvHeads) D], or q and k of one without v. */
  #parts(matrix: MatrixView): { q: MatrixView; k: MatrixView; v: MatrixView } {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const [qDim, kvDim] = [nHeads * D, nKvHeads * D];
    return {
      q: matrix.columns(0, qDim),
      k: matrix.columns(qDim, kvDim),
      v: matrix.columns(qDim + kvDim, kvDim),
    };
  }

  override get projections(): readonly Projection[] {
    return [this.#qkv, this.#out];
  }

  /** @param sequence positions shared with other layers. Default: this plans them. */
  plan(planner: Planner, batch: number, seq: number, sequence?: SequenceSlots): AttentionSlots {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const tokens = batch * seq;
    const qkWidth = (nHeads + nKvHeads) * D;
    const qkv = planner.floats(tokens, qkWidth + nKvHeads * D);
    const qk = this.#norm ? planner.floats(tokens, qkWidth) : qkv.columns(0, qkWidth);
    const projected = this.#parts(qkv);
    const positions = sequence ?? planSequence(planner, batch, seq);
    const { queryStarts, kvLengths } = positions;
    const { q, k } = this.#parts(qk);
    const out = planner.floats(tokens, nHeads * D);
    const lse = planner.floats(tokens, nHeads);
    return {
      products: { qkv: this.#qkv.plan(planner, tokens), out: this.#out.plan(planner, tokens) },
      sequence: positions,
      qkv,
      projected,
      qk,
      invRms: this.#norm ? this.#norm.plan(planner, tokens) : null,
      ones: this.#qkvBias && planOnes(planner, tokens),
      heads: { q, k, v: projected.v, out, lse, queryStarts, kvLengths },
      inCache: null,
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): AttentionScratch {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const tokens = batch * seq;
    const qkWidth = (nHeads + nKvHeads) * D;
    const dQkv = planner.floats(tokens, qkWidth + nKvHeads * D);
    const dQk = this.#norm ? planner.floats(tokens, qkWidth) : dQkv.columns(0, qkWidth);
    const dProjected = this.#parts(dQkv);
    const dNormed = this.#parts(dQk);
    const dOut = planner.floats(tokens, nHeads * D);
    const heads = { dOut, dQ: dNormed.q, dK: dNormed.k, dV: dProjected.v };
    const products = {
      qkv: this.#qkv.planBackward(planner, tokens),
      out: this.#out.planBackward(planner, tokens),
    };
    return { products, dQkv, dProjected, dQk, dNormed, heads };
  }

  override prepare(s: AttentionSlots): void {
    fillSequence(s.sequence);
  }

  forwardAt(s: AttentionSlots, x: MatrixView, y: MatrixView, accumulate: boolean): void {
    if (x.rows === 0) return;
    const { kernels } = this;
    const scale = this.#outScale;
    const beta = accumulate ? 1 : 0;
    this.#qkvBias?.spread(kernels, s.ones!, s.qkv);
    this.#qkv.forwardAt(s.products.qkv, x, s.qkv, 1, this.#qkvBias ? 1 : 0);
    this.#norm?.forwardAt(kernels, s.invRms!, s.projected, s.heads);
    this.#rotate(s.qk, s.sequence, false);
    if (s.inCache) this.#attendCached(s, s.inCache);
    else for (const run of s.sequence.runs) attention(kernels, s.heads, this.#scale, run);
    this.#outBias?.spread(kernels, s.ones!, y, scale, beta);
    this.#out.forwardAt(s.products.out, s.heads.out, y, scale, this.#outBias ? 1 : beta);
  }

  backwardAt(
    s: AttentionSlots,
    scratch: AttentionScratch,
    x: MatrixView,
    dy: MatrixView,
    dx: MatrixView,
    accumulate: boolean,
  ): void {
    if (x.rows === 0) return;
    const { kernels } = this;
    const { gradBeta } = this.store;
    const { products, dQkv, dQk, dNormed, dProjected, heads } = scratch;
    const scale = this.#outScale;
    this.#outBias?.addGradient(kernels, s.ones!, dy, gradBeta, scale);
    this.#out.backwardAt(s.products.out, products.out, s.heads.out, dy, heads.dOut, scale);
    for (const run of s.sequence.runs) attentionBackward(kernels, s.heads, heads, this.#scale, run);
    this.#rotate(dQk, s.sequence, true);
    this.#norm?.backwardAt(kernels, s.invRms!, s.projected, dNormed, dProjected);
    this.#qkvBias?.addGradient(kernels, s.ones!, dQkv, gradBeta);
    this.#qkv.backwardAt(s.products.qkv, products.qkv, x, dQkv, dx, 1, accumulate ? 1 : 0);
  }

  /** Appends the new keys and values to the cache, then lets the queries attend to their sequences' slots. */
  #attendCached({ sequence, heads }: AttentionSlots, layer: CacheLayer): void {
    const { run, runs } = sequence.cached!;
    for (let i = 0; i < runs; i++) {
      layer.append(this.kernels, run[i], sequence.positions, heads.k, heads.v);
      layer.attend(this.kernels, heads, this.#scale, run[i]);
    }
  }

  /** Rotates q and k, which lie side by side: nHeads + nKvHeads heads of one row; pairs as the weights' rows have them. */
  #rotate(qk: MatrixView, { reach, positions }: SequenceSlots, inverse: boolean): void {
    this.rope.ensure(reach);
    rope(this.kernels, qk, this.rope, positions, this.store.pairsHalves, inverse);
  }
}
