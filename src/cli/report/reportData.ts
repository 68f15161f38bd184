/* What the page is given, in JSON; it imports nothing, as the page's own scripts are checked against it. */

/** What a report shows of a run. */
export interface RunReport {
  name: string;
  path: string;
  /** Steps in metrics.jsonl, skipped ones included. */
  steps: number;
  skippedSteps: number;
  /** Of the model, all and used by a token; null where run.json doesn't tell its sizes. */
  parameters: { total: number; active: number } | null;
  curves: Record<CurveName, Curve>;
  load: LoadMap | null;
  samples: RunSample[];
  /** Samples that were left out between those. */
  samplesOmitted: number;
  /** run.json: the settings and, of a run that has ended, its result or its error. */
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
  | 'lr'
  | 'gradNorm'
  | 'tokensPerSec'
  /** Lowest of the layers. */
  | 'loadEntropy'
  /** Highest of the layers. */
  | 'maxOverMean'
  /** Of all layers together. */
  | 'deadExperts';

/** The course of one quantity, thinned: the mean, least and greatest value over some steps in a row, up to `steps[i]`. */
export interface Curve {
  steps: number[];
  mean: number[];
  /** As `mean`, or null where every point is one value of its own. */
  range: { low: number[]; high: number[] } | null;
}

/** The experts' shares over the steps, mean over the steps of a column. */
export interface LoadMap {
  expertsPerLayer: number[];
  firstSteps: number[];
  lastSteps: number[];
  /** uint16, little-endian, in base64: share * 65535, column by column, in each layer by layer, expert by expert. */
  shares: string;
}
