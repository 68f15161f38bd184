import type { DecodeRow } from '../../model/decoder';
import type { RowDraws } from '../../sampling/rowDraws';

/** The results of a step, and the place of one sequence within them. */
export interface StepResult {
  /** Logits [R,V] of the rows that need them. */
  logits: Float32Array;
  /** Output of the final norm [T,H]. */
  hidden: Float32Array;
  /** Chosen experts [nLayers,T,K]. */
  experts: Int32Array;
  gateWeights: Float32Array;
  /** T, the tokens of the step. */
  tokens: number;
  /** The sequence's first token in the step, followed by its number of tokens and its row of logits. */
  at: number;
  count: number;
  logitsRow: number;
}

/** Work that takes part in steps and occupies a slot. */
export interface Sequence {
  readonly id: number;
  readonly slot: number;
  /** Whose it is. */
  readonly client: string;
  /** The sequence's input of a step; always the same object. */
  readonly row: DecodeRow;
  /** Number of tokens that it can feed, at least one. */
  readonly ready: number;
  readonly wantsHidden: boolean;
  readonly wantsRouting: boolean;
  /** Guesses at most `room` tokens, which it can feed beyond those that are ready; returns how many. */
  draft(room: number): number;
  /** Puts the next `count` tokens into `row`. */
  feed(count: number): void;
  /** Adds the choice that `take` will make, if any, to those that are drawn together; `logitsRow` is its row of logits. */
  planDraw(draws: RowDraws, logitsRow: number): void;
  /** Takes the step's results for these tokens. Returns whether the sequence has ended. */
  take(step: StepResult): boolean;
}
