import type { LossResult } from '../trainer';
import type { Evaluation } from './best';
import type { TrainingResult } from './result';
import type { StarvingExpert } from './routerHealth';
import type { ValidationResult } from './validation';

/** The events of a `TrainingRun`. `step` counts the run's steps from 1, skipped ones included, as in all its files. */
export type RunEvent =
  | StartEvent
  | NoteEvent
  | StepEvent
  | EvaluationEvent
  | SampleEvent
  | SavedEvent
  | SaveFailedEvent
  | StarvingExpertEvent
  | FinalEvaluationEvent
  | EndEvent;

/** The run has locked its folder and opened its files; the steps follow. */
export interface StartEvent {
  type: 'start';
  /** Steps that earlier processes made; 0 for a new run. */
  stepsMade: number;
}

/** A note to the user; the run goes on. */
export interface NoteEvent {
  type: 'note';
  text: string;
}

/** A step was made. */
export interface StepEvent extends LossResult {
  type: 'step';
  step: number;
  /** Number of the optimizer's update, from 1; a skipped step keeps it for the next one. */
  update: number;
  /** Learning rate of this step. */
  lr: number;
  /** The loss or the gradient was not finite: weights and optimizer are as before. */
  skipped: boolean;
  /** The number of consecutive skipped steps that end with this one; 0 if it wasn't skipped. */
  skippedInARow: number;
  /** Seconds that this step took. */
  seconds: number;
  tokensPerSec: number;
  /** Whether an `EvaluationEvent` of this step follows. */
  evaluationFollows: boolean;
}

/** The model was evaluated on the first batches of the validation split. */
export interface EvaluationEvent extends ValidationResult, Evaluation {
  type: 'evaluation';
  loss: number;
  /** Whether the loss is lower than all before. */
  isBest: boolean;
}

/** A sample was generated and appended to samples.jsonl. */
export interface SampleEvent {
  type: 'sample';
  step: number;
  prompt: string;
  text: string;
}

/**
 * What a run saves: 'checkpoint' is the last weights with the state to resume from, 'best' the best weights, 'curve' the
 * chart.
 */
export type SavedPart = 'checkpoint' | 'best' | 'curve';

export interface SavedEvent {
  type: 'saved';
  step: number;
  part: SavedPart;
}

/** The disk refused a save. The run goes on: the earlier save is untouched, and the next save tries again. */
export interface SaveFailedEvent {
  type: 'saveFailed';
  step: number;
  part: SavedPart;
  error: Error;
  /** At the end of the run: seconds until the same save is tried again. null before the end. */
  retrySeconds: number | null;
}

/** An expert gets almost no tokens and so learns almost nothing. A run reports this once. */
export interface StarvingExpertEvent extends StarvingExpert {
  type: 'starvingExpert';
  step: number;
}

/** All steps are made and saved; the evaluation of the whole validation split begins. */
export interface FinalEvaluationEvent {
  type: 'finalEvaluation';
  step: number;
  /** Tokens of the validation split. */
  tokens: number;
}

/** The last event. */
export interface EndEvent {
  type: 'end';
  result: TrainingResult;
}
