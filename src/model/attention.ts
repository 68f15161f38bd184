import { checkFactor, checkInteger } from '../base/checks';
import type { AttentionBiasKind, QueryKeyNormKind } from '../config/modelConfig';
import type { CachedSequences } from '../memory/keyValueCache';
import type { Parameter } from '../memory/parameters';
import type { Bias, Matrix } from '../memory/weight';
import type { Planner, Workspace } from '../memory/workspace';
import { Layer, type LayerOptions } from './layers';
import { QueryKeyNorm } from './queryKeyNorm';

/**
 * Rotary angles (Su et al. 2021, eq. 15; NTK scaling is in the base): row p, pair i holds cos and sin of
 * p * base^(-2i/D). Rows are computed once and kept; the table doubles when a longer sequence comes.
 */
export class RopeTable {
  cos: Float32Array;
  sin: Float32Array;
  length = 0;

  constructor(
    readonly headDim: number,
    readonly base: number,
    private readonly floatType: 'float32' | 'float64' = 'float32',
  ) {
    this.cos = this.sin = new Float32Array(0);
  }

  /** Frequencies base^(-2i/D), i in [0, D/2). */
  frequencies(): number[] {
    return Array.from({ length: this.headDim / 2 }, (_, i) => this.base ** ((-2 * i) / this.headDim));
  }

  /** Makes positions [0, length) available. */
  ensure(length: number): void {
    if (length <= this.length) return;
    const rows = Math.max(length, 2 * this.length);
    const frequencies = this.frequencies();
    const pairs = frequencies.length;
    // As in parameters.ts: float64 hides behind the same type when the kernels compute in it.
    const FloatArray = (this.floatType === 'float64' ? Float64Array : Float32Array) as Float32ArrayConstructor;
    this.cos = new FloatArray(rows * pairs);
    this.sin = new FloatArray(rows * pairs);
    for (let p = 0; p < rows; p++) {
      for (let i = 0; i < pairs; i++) {
        this.cos[p * pairs + i] = Math.cos(p * frequencies[i]);
        this.sin[p * pairs + i] = Math.sin(p * frequencies[i]);
      }
    }
    this.length = rows;
  }
}

/** Positions of the tokens of a batch, as the kernels want them; the same for every layer of a model. */
export interface SequenceSlots {
  batch: number;
  seq: number;
  /** Every position is below it. */
  reach: number;
  /** int32 [T]: 0..S-1 for each sequence; with a past, what follows it. */
  positions: number;
  /** int32 [B]: 0, no sequence has a past; else the length of the past. */
  queryStarts: number;
  /** int32 [B]: S, and the past. */
  kvLengths: number;
  /** Where the past's keys and values are, and how the T tokens fall into sequences: B and S then say nothing. */
  cached: CachedSequences | null;
}

/** @param cached of sequences with a past, the positions of which `fillSequence` does not know. */
export function planSequence(
  planner: Planner, batch: number, seq: number, cached: CachedSequences | null = null,
): SequenceSlots {
  return {
    batch, seq, reach: cached?.cache.contextLength ?? seq, cached,
    positions: planner.ints(batch * seq), queryStarts: planner.ints(batch), kvLengths: planner.ints(batch),
  };
}

export function fillSequence(ws: Workspace, s: SequenceSlots): void {
  const { ints } = ws;
  for (let b = 0; b < s.batch; b++) {
    ints[s.queryStarts + b] = 0;
    ints[s.kvLengths + b] = s.seq;
    for (let i = 0; i < s.seq; i++) ints[s.positions + b * s.seq + i] = i;
  }
}

export interface AttentionSlots {
  sequence: SequenceSlots;
  /** Index of the layer, by which a key-value cache finds its part. */
  layer: number;
  /** [T, (nHeads + 2 nKvHeads) D]: q|k|v; q and k rotated, or as they were before their norm. */
  qkv: number;
  /** [T, (nHeads + nKvHeads) D]: q|k, normed and rotated. Without a norm: qkv. */
  qk: number;
  /** 1/rms of queries and keys; nothing without a norm. */
  invRms: number;
  /** [T] ones, for the biases; nothing without. */
  ones: number;
  /** [T, nHeads D]: the heads' outputs. */
  heads: number;
  /** [B, nHeads, S]: row log-sum-exp of the scores. */
  lse: number;
}

export interface AttentionScratch {
  dQkv: number;
  /** As AttentionSlots.qk. */
  dQk: number;
  dHeads: number;
}

export interface AttentionDims {
  hiddenDim: number;
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  /** Default 'none'. */
  qkNorm?: QueryKeyNormKind;
  /** Of the query and key norms. Default 1e-6. */
  rmsNormEps?: number;
  /** Default 'none'. */
  attentionBias?: AttentionBiasKind;
  /** c, a number > 0. Default null: 1/sqrt(D). */
  attentionMultiplier?: number | null;
  /** r, a number > 0. Default 1. */
  residualMultiplier?: number;
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
  readonly #qkv: Matrix;
  readonly #out: Matrix;
  readonly #qkvBias: Bias | null;
  readonly #outBias: Bias | null;
  readonly #norm: QueryKeyNorm | null;
  readonly #scale: number;
  readonly #outScale: number;

  /** @param options.rope shared table of angles. Default: one of its own, base 10000. */
  constructor(
    readonly dims: AttentionDims,
    options: LayerOptions & { rope?: RopeTable } = {},
  ) {
    super(dims?.hiddenDim, dims?.hiddenDim, options, ['rope']);
    const { hiddenDim: H, nHeads, nKvHeads, headDim: D } = dims;
    for (const name of ['nHeads', 'nKvHeads', 'headDim'] as const) checkInteger(`MQAttention: ${name}`, dims[name], 1);
    if (D % 2 !== 0) throw new RangeError(`MQAttention: headDim must be even (rotary pairs), got ${D}`);
    if (nHeads % nKvHeads !== 0) {
      throw new RangeError(`MQAttention: nKvHeads (${nKvHeads}) must divide nHeads (${nHeads})`);
    }
    const prefix = options.prefix ?? '';
    const qDim = nHeads * D;
    const kvDim = nKvHeads * D;
    const { store } = this;
    this.#qkv = store.addMatrix(qDim + 2 * kvDim, H);
    this.#out = store.addMatrix(H, qDim);
    this.qProj = store.expose(`${prefix}q_proj.weight`, [qDim, H], this.#qkv);
    this.kProj = store.expose(`${prefix}k_proj.weight`, [kvDim, H], this.#qkv, qDim * H);
    this.vProj = store.expose(`${prefix}v_proj.weight`, [kvDim, H], this.#qkv, (qDim + kvDim) * H);
    this.oProj = store.expose(`${prefix}o_proj.weight`, [H, qDim], this.#out);
    const { qkNorm = 'none', attentionBias = 'none', attentionMultiplier = null, residualMultiplier = 1 } = dims;
    this.#qkvBias = attentionBias === 'none' ? null : this.#addBias(prefix);
    this.#outBias = attentionBias === 'qkvo' ? store.addBias(H) : null;
    if (this.#outBias) store.expose(`${prefix}o_proj.bias`, [H], this.#outBias);
    this.#norm = qkNorm === 'none' ? null : new QueryKeyNorm(qkNorm, dims, store, prefix);
    this.rope = options.rope ?? new RopeTable(D, 10000, this.kernels.floatType);
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

  /** @param sequence positions shared with other layers; planned here when absent. */
  plan(planner: Planner, batch: number, seq: number, sequence?: SequenceSlots): AttentionSlots {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const tokens = batch * seq;
    const norm = this.#norm;
    const qkv = planner.floats(tokens * (nHeads + 2 * nKvHeads) * D);
    return {
      sequence: sequence ?? planSequence(planner, batch, seq),
      layer: 0,
      qkv,
      qk: norm ? planner.floats(tokens * norm.width) : qkv,
      invRms: norm ? norm.plan(planner, tokens) : 0,
      ones: planner.floats(this.#qkvBias ? tokens : 0),
      heads: planner.floats(tokens * nHeads * D),
      lse: planner.floats(tokens * nHeads),
    };
  }

  planBackward(planner: Planner, batch: number, seq: number): AttentionScratch {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const tokens = batch * seq;
    const dQkv = planner.floats(tokens * (nHeads + 2 * nKvHeads) * D);
    const dQk = this.#norm ? planner.floats(tokens * this.#norm.width) : dQkv;
    return { dQkv, dQk, dHeads: planner.floats(tokens * nHeads * D) };
  }

  override prepare(ws: Workspace, s: AttentionSlots): void {
    fillSequence(ws, s.sequence);
  }

  forwardAt(ws: Workspace, s: AttentionSlots, x: number, y: number, accumulate: boolean): void {
    const { kernels: k } = this;
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const { batch, seq, queryStarts, kvLengths } = s.sequence;
    const f = ws.floats;
    const tokens = batch * seq;
    if (tokens === 0) return;
    const width = (nHeads + 2 * nKvHeads) * D;
    const qkWidth = this.#norm?.width ?? width;
    const qDim = nHeads * D;
    const kAt = s.qk + qDim;
    const vAt = s.qkv + qDim + nKvHeads * D;
    this.#qkvBias?.spread(k, tokens, f, s.ones, 0, f, s.qkv);
    this.#qkv.multiply(k, tokens, f, x, this.#qkvBias ? 1 : 0, f, s.qkv);
    this.#norm?.forwardAt(k, ws, s.invRms, s.qkv, width, s.qk, tokens);
    this.#rotate(ws, s.sequence, s.qk, qkWidth, false);
    if (s.sequence.cached) this.#attendCached(ws, s, s.sequence.cached, qkWidth, kAt, width, vAt);
    else {
      k.attentionForward(
        f, s.qk, qkWidth, f, kAt, qkWidth, seq * qkWidth, f, vAt, width, seq * width, f, s.heads, qDim, f, s.lse,
        ws.ints, queryStarts, ws.ints, kvLengths, batch, seq, nHeads, nKvHeads, D, this.#scale,
      );
    }
    const beta = accumulate ? 1 : 0;
    this.#outBias?.spread(k, tokens, f, s.ones, beta, f, y, this.#outScale);
    this.#out.multiply(k, tokens, f, s.heads, this.#outBias ? 1 : beta, f, y, this.#outScale);
  }

  backwardAt(
    ws: Workspace, s: AttentionSlots, scratch: AttentionScratch, x: number, dy: number, dx: number,
    accumulate: boolean,
  ): void {
    const { kernels: k, inDim: H } = this;
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const { batch, seq, queryStarts, kvLengths } = s.sequence;
    const { gradBeta } = this.store;
    const { dQkv, dQk, dHeads } = scratch;
    const f = ws.floats;
    const tokens = batch * seq;
    if (tokens === 0) return;
    const width = (nHeads + 2 * nKvHeads) * D;
    const qkWidth = this.#norm?.width ?? width;
    const r = this.#outScale;
    const qDim = nHeads * D;
    const toV = qDim + nKvHeads * D;
    this.#outBias?.addGradient(k, tokens, f, s.ones, dy, gradBeta, r);
    k.sgemm(true, false, H, qDim, tokens, r, f, dy, H, f, s.heads, qDim, gradBeta, this.#out.grad!, 0, qDim);
    k.sgemm(false, false, tokens, qDim, H, r, f, dy, H, this.#out.data, 0, qDim, 0, f, dHeads, qDim);
    k.attentionBackward(
      f, s.qk, qkWidth, f, s.qk + qDim, qkWidth, seq * qkWidth, f, s.qkv + toV, width, seq * width,
      f, s.heads, qDim, f, s.lse, f, dHeads, f, dQk, f, dQk + qDim, f, dQkv + toV,
      ws.ints, queryStarts, ws.ints, kvLengths, batch, seq, nHeads, nKvHeads, D, this.#scale,
    );
    this.#rotate(ws, s.sequence, dQk, qkWidth, true);
    this.#norm?.backwardAt(k, ws, s.invRms, s.qkv, width, dQk, dQkv, tokens);
    this.#qkvBias?.addGradient(k, tokens, f, s.ones, dQkv, gradBeta);
    k.sgemm(true, false, width, H, tokens, 1, f, dQkv, width, f, x, H, gradBeta, this.#qkv.grad!, 0, H);
    const beta = accumulate ? 1 : 0;
    k.sgemm(false, false, tokens, H, width, 1, f, dQkv, width, this.#qkv.data, 0, H, beta, f, dx, H);
  }

  /** Puts the new keys and values behind those in the cache, then lets the queries attend to the sequences' slots. */
  #attendCached(
    ws: Workspace, s: AttentionSlots, cached: CachedSequences, ldq: number, newKeys: number, ldv: number, newValues: number,
  ): void {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const { cache, runs } = cached;
    const { positions, queryStarts, kvLengths } = s.sequence;
    const { width, slotStride } = cache;
    const f = ws.floats;
    const qDim = nHeads * D;
    const keys = cache.keysAt(s.layer);
    const values = cache.valuesAt(s.layer);
    let sequence = 0;
    let token = 0;
    for (let run = 0; run < runs; run++) {
      const slot = cached.slot[run];
      const sequences = cached.sequences[run];
      const newTokens = cached.newTokens[run];
      for (let i = 0; i < sequences * newTokens; i++) {
        const t = token + i;
        const at = (slot + Math.floor(i / newTokens)) * slotStride + ws.ints[positions + t] * width;
        f.copyWithin(keys + at, newKeys + t * ldq, newKeys + t * ldq + width);
        f.copyWithin(values + at, newValues + t * ldv, newValues + t * ldv + width);
      }
      const past = slot * slotStride;
      this.kernels.attentionForward(
        f, s.qk + token * ldq, ldq, f, keys + past, width, slotStride, f, values + past, width, slotStride,
        f, s.heads + token * qDim, qDim, f, s.lse + token * nHeads,
        ws.ints, queryStarts + sequence, ws.ints, kvLengths + sequence,
        sequences, newTokens, nHeads, nKvHeads, D, this.#scale,
      );
      sequence += sequences;
      token += sequences * newTokens;
    }
  }

  /** RoPE over q and k, which lie side by side: nHeads + nKvHeads heads of one row. */
  #rotate(ws: Workspace, s: SequenceSlots, qk: number, ld: number, inverse: boolean): void {
    const { nHeads, nKvHeads, headDim: D } = this.dims;
    const { rope } = this;
    rope.ensure(s.reach);
    this.kernels.rope(
      ws.floats, qk, ld, rope.cos, 0, rope.sin, 0, rope.length, ws.ints, s.positions,
      s.batch * s.seq, nHeads + nKvHeads, D, inverse,
    );
  }
}
