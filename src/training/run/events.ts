import type { LossResult } from '../trainer';
import type { Evaluation } from './best';
import type { TrainingResult } from './result';
import type { StarvingExpert } from './routerHealth';
import type { ValidationResult } from './validation';

/** What a `TrainingRun` tells. `step` counts the run's steps from 1, skipped ones included, as in all of its files. */
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

/** The folder is the run's, its files are open; the steps follow. */
export interface StartEvent {
  type: 'start';
  /** Steps made before, by other processes; 0 for a new run. */
  stepsMade: number;
}

/** Something to know that stops nothing. */
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
  /** Skipped steps up to this one; 0 when it was not. */
  skippedInARow: number;
  /** Of this step alone. */
  seconds: number;
  tokensPerSec: number;
  /** An `EvaluationEvent` of this step follows. */
  evaluationFollows: boolean;
}

/** The model was evaluated on the first batches of the validation split. */
export interface EvaluationEvent extends ValidationResult, Evaluation {
  type: 'evaluation';
  loss: number;
  /** Lower than all before. */
  isBest: boolean;
}

/** A sample was written, and appended to samples.jsonl. */
export interface SampleEvent {
  type: 'sample';
  step: number;
  prompt: string;
  text: string;
}

/** What a run saves on its way: the last weights with all that a run is resumed by, the best weights, the picture. */
export type SavedPart = 'checkpoint' | 'best' | 'curve';

export interface SavedEvent {
  type: 'saved';
  step: number;
  part: SavedPart;
}

/** The disk refused a save. The run goes on: what was saved before is untouched, the next save tries again. */
export interface SaveFailedEvent {
  type: 'saveFailed';
  step: number;
  part: SavedPart;
  error: Error;
  /** At the end of the run the same save is tried again after so many seconds; null before the end. */
  retrySeconds: number | null;
}

/** An expert learns next to nothing, since it gets next to no tokens. Told once. */
export interface StarvingExpertEvent extends StarvingExpert {
  type: 'starvingExpert';
  step: number;
}

/** All steps are made and saved; the whole validation split is evaluated now. */
export interface FinalEvaluationEvent {
  type: 'finalEvaluation';
  step: number;
  /** Of the split. */
  tokens: number;
}

/** The last event. */
export interface EndEvent {
  type: 'end';
  result: TrainingResult;
}
