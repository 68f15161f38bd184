import type { DecodeRow } from '../../model/decoder';

/** What a step computed: the row of this sequence within it. */
export interface StepResult {
  /** [R,V] */
  logits: Float32Array;
  /** [T,H] */
  hidden: Float32Array;
  /** [nLayers,T,K] */
  experts: Int32Array;
  gateWeights: Float32Array;
  /** T */
  tokens: number;
  /** Of the sequence: its first new token and how many; its row of logits. */
  at: number;
  count: number;
  logitsRow: number;
}

/** Work that takes part in steps and occupies a slot. */
export interface Sequence {
  readonly id: number;
  readonly slot: number;
  /** What it hands to a step; the same object each time. */
  readonly row: DecodeRow;
  /** New tokens that it has ready, at least one. */
  readonly ready: number;
  readonly wantsHidden: boolean;
  readonly wantsRouting: boolean;
  /** Puts the next `count` tokens into `row`. */
  feed(count: number): void;
  /** Takes what the step computed of them. Returns whether the sequence has ended. */
  take(step: StepResult): boolean;
}
