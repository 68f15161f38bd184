/** Runs to report on, made without training. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface RunContent {
  steps: number;
  /** How many of these, the last ones, were skipped. Default 0. */
  skipped?: number;
  /** Share of the tokens by layer and expert. */
  load?: (step: number) => number[][];
  loss?: (step: number) => number | null;
  samples?: readonly { step: number; prompt: string; text: string }[];
  run?: object;
  /** Text after the last whole line. */
  cutOff?: string;
}

/** Writes a run folder of this name, in a new folder. */
export function writeRun(name: string, content: RunContent): string {
  const { steps, skipped = 0, samples = [], run = {}, cutOff = '' } = content;
  const { load = () => [[0.5, 0.5]], loss = (step) => 4 / (1 + step / 100) } = content;
  const folder = join(mkdtempSync(join(tmpdir(), 'sgemoe report-')), name);
  mkdirSync(folder);
  const lines = Array.from({ length: steps }, (_, i) => {
    const step = i + 1;
    const evaluated = step % 10 === 0 ? { validationLoss: 3, validationBitsPerByte: 4.5 } : {};
    const figures = { crossEntropy: loss(step), auxLoss: 0.02, lr: 1e-3, gradNorm: 1, tokensPerSec: 1e4 };
    return `${JSON.stringify({ step, update: step, ...figures, ...evaluated, expertLoad: load(step), skipped: step > steps - skipped })}\n`;
  });
  writeFileSync(join(folder, 'metrics.jsonl'), lines.join('') + cutOff);
  writeFileSync(
    join(folder, 'samples.jsonl'),
    samples.map((sample) => `${JSON.stringify(sample)}\n`).join(''),
  );
  writeFileSync(join(folder, 'run.json'), JSON.stringify(run));
  return folder;
}
