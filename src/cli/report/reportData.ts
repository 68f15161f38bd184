/* The JSON data of the page. This file imports nothing, since the page's scripts are type-checked against it. */

/** The data of a run in a report. */
export interface RunReport {
  name: string;
  path: string;
  /** Steps in metrics.jsonl, skipped ones included. */
  steps: number;
  skippedSteps: number;
  /** Parameters of the model, all of them and those that a token uses; null if run.json lacks its sizes. */
  parameters: { total: number; active: number } | null;
  curves: Record<CurveName, Curve>;
  load: LoadMap | null;
  samples: RunSample[];
  /** Number of samples that were left out between those. */
  samplesOmitted: number;
  /** The content of run.json: the settings and, if the run has ended, its result or its error. */
  run: Record<string, unknown>;
}

export interface RunSample {
  step: number;
  prompt: string;
  text: string;
}

export type CurveName =
  | 'crossEntropy'
  | 'validationLoss'
  | 'validationBitsPerByte'
  | 'auxLoss'
  /** Of preference pairs. */
  | 'accuracy'
  | 'validationAccuracy'
  | 'margin'
  | 'chosenReward'
  | 'rejectedReward'
  | 'lr'
  | 'gradNorm'
  | 'tokensPerSec'
  /** Minimum over the layers. */
  | 'loadEntropy'
  /** Maximum over the layers. */
  | 'maxOverMean'
  /** Sum over the layers. */
  | 'deadExperts';

/** A thinned curve: point i has the mean, minimum and maximum over the consecutive steps that end with `steps[i]`. */
export interface Curve {
  steps: number[];
  mean: number[];
  /** Minimum and maximum of each point; null if every point is a single value. */
  range: { low: number[]; high: number[] } | null;
}

/** The experts' shares over the steps; a column has the mean over its steps. */
export interface LoadMap {
  expertsPerLayer: number[];
  firstSteps: number[];
  lastSteps: number[];
  /** [columns, layers, experts]: share * 65535 as little-endian uint16 in base64. */
  shares: string;
}
