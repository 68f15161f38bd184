import { backendInfo } from '../../backend';
import type { Precision } from '../../base/precision';
import { layersInWords } from '../../config/layersInWords';
import type { TokenDataset } from '../../text/data';
import type { TrainingResult } from '../../training/run/result';
import type { ValidationResult } from '../../training/run/validation';
import type { Trainer } from '../../training/trainer';
import { describeBackend } from '../commands/info';
import { formatCount, formatDuration, formatLoss, formatPercent, formatRate, shellQuote } from './format';
import { slowPrecision } from './precisionNote';

/** The lines at the head of a run: model, data, backend and folder. */
export function describeRun(dataset: TokenDataset, trainer: Trainer, dir: string): string {
  const { config } = trainer.model;
  const { trainTokens, validationTokens, tokenizer, files } = dataset;
  const source = files.length === 1 ? files[0] : `${formatCount(files.length)} files`;
  return [
    `Data:    ${formatCount(trainTokens)} tokens to train on, ${formatCount(validationTokens)} to validate (${source}); ` +
      `vocabulary ${formatCount(tokenizer.vocabSize)}`,
    `Model:   ${formatCount(config.totalParams())} parameters, ${formatCount(config.activeParams())} used by a token; ` +
      `hidden ${config.hiddenDim}, ${layersInWords(config)}`,
    `Backend: ${describeBackend(backendInfo())}`,
    ...describePrecision(trainer.config.precision),
    `Run:     ${dir}`,
  ].join('\n');
}

function describePrecision(precision: Precision): string[] {
  if (precision === 'float32') return [];
  const note = slowPrecision(precision);
  return [`Mixed:   products by weight matrices in ${precision}${note === null ? '' : `, which is ${note}`}`];
}

export interface RunEnd {
  /** The command of the run: 'train'. */
  command: string;
  totalSteps: number;
  out: string;
  /** The command that uses the weights: 'sgemoe generate ...'. */
  next: string;
}

/** The lines at the end: the result, the saved files and, after an interrupt, how to resume. */
export function describeResult(result: TrainingResult, { command, totalSteps, out, next }: RunEnd): string {
  const { steps, validation, best, seconds, tokensPerSec, skippedSteps } = result;
  const dir = shellQuote(out);
  const lines = [
    `${formatCount(steps)} steps in ${formatDuration(seconds)}, ${formatRate(tokensPerSec)} tokens/s.`,
  ];
  if (skippedSteps > 0) {
    lines.push(
      `${formatCount(skippedSteps)} of them skipped: loss or gradient not finite; a lower learning rate may help.`,
    );
  }
  if (validation !== null) {
    lines.push(
      `Validation loss ${describeValidation(validation)}, over the whole split (earlier figures: over its first batches).`,
    );
  }
  if (result.stoppedEarly) {
    lines.push(`Stopped early, at step ${steps} of ${totalSteps}: the evaluations had stopped improving.`);
  }
  if (best !== null && best.step < steps) {
    lines.push(
      `The lowest evaluation was ${formatLoss(best.loss)} at step ${best.step}, kept in ${dir}/best.`,
    );
  }
  lines.push(`Saved to ${dir}; the curves are in ${dir}/curve.svg.`);
  if (result.interrupted) {
    lines.push(
      `Stopped at step ${steps} of ${totalSteps}. Go on:  sgemoe ${command} --out ${dir} --resume`,
      `With the weights so far:  ${next}`,
    );
  }
  return lines.join('\n');
}

function describeValidation({ loss, bitsPerByte, preferences }: ValidationResult): string {
  if (preferences === undefined)
    return `${loss.toFixed(4)} nats per token, ${bitsPerByte!.toFixed(3)} bits per byte`;
  const { accuracy, margin } = preferences;
  return `${loss.toFixed(4)}, ${formatPercent(accuracy)} of the chosen answers preferred, margin ${margin.toFixed(3)}`;
}
