import type { ResolvedTrainConfig } from '../config/trainConfig';

/** The learning rate of `step`, from 1; `Trainer.getLr` documents the formulas. */
export function learningRate(config: ResolvedTrainConfig, step: number): number {
  const { lr, warmupSteps, totalSteps, schedule, minLrRatio } = config;
  if (step <= warmupSteps && warmupSteps > 0) return (lr * step) / warmupSteps;
  if (schedule === 'constant') return lr;
  if (step >= totalSteps) return lr * minLrRatio;
  const progress = (step - warmupSteps) / (totalSteps - warmupSteps);
  if (schedule === 'linear') return lr * (1 - (1 - minLrRatio) * progress);
  return lr * (minLrRatio + ((1 - minLrRatio) / 2) * (1 + Math.cos(Math.PI * progress)));
}
