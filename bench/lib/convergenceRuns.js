'use strict';
const { MoETransformer, Tensor, Trainer, bigramConditionalEntropy, evaluate } = require('../..');
const { renderChart } = require('../../dist/training/run/chart');
const { BinnedSeries } = require('../../dist/training/run/series');
const { SEED, batchOf, configOf } = require('./models');

const FIXED = { batch: 2, seq: 8, lr: 1e-3, warmupSteps: 10 };
const TEXT = { batch: 16, seq: 64, lr: 3e-3, warmupSteps: 30 };
const VALIDATIONS = 20;
const VALIDATION_BATCHES = 10;
const BINS = 300;
/** The share of the run over which the load at its start and at its end is averaged. */
const END_SHARE = 0.05;

/** Runs the cross-language demo: the tiny preset learns one batch by heart. */
function fixedBatchRun({ steps, say }) {
  const config = configOf('tiny');
  const { batch, seq, lr, warmupSteps } = FIXED;
  const { ids, targets } = batchOf(batch, seq, config.vocabSize);
  const trainer = new Trainer(MoETransformer.create(config, { seed: SEED }), { lr, warmupSteps });
  const history = train(trainer, steps, () => trainer.trainStep(ids, targets));
  say(`Fixed batch: ${describe(history)}`);
  return {
    settings: { model: 'tiny', seed: SEED, ...FIXED, steps },
    ...history.summary,
    svg: chart('One batch, learnt by heart', history, {
      config,
      tokensPerStep: batch * seq,
      validation: [],
      references: [],
    }),
  };
}

/** Trains the tiny preset on bytes, with a validation split and a bigram model's loss for comparison. */
function textRun({ dataset, steps, say }) {
  const config = configOf({ ...configOf('tiny'), vocabSize: 256 });
  const { batch, seq, lr, warmupSteps } = TEXT;
  const model = MoETransformer.create(config, { seed: SEED });
  const trainer = new Trainer(model, { lr, warmupSteps, totalSteps: steps });
  const batches = dataset.batches({ batchSize: batch, seqLen: seq, seed: SEED });
  const bigram = bigramConditionalEntropy(dataset.train, dataset.validation, config.vocabSize);
  const interval = Math.max(1, Math.floor(steps / VALIDATIONS));
  const shape = { batchSize: batch, seqLen: seq };
  const validation = [];
  const history = train(trainer, steps, (step) => {
    const { ids, targets } = batches.next().value;
    const result = trainer.trainStep(tensor(ids, batch, seq), tensor(targets, batch, seq));
    if (step % interval === 0 || step === steps) {
      const held = dataset.validationBatches({ ...shape, maxBatches: VALIDATION_BATCHES });
      validation.push({ step, loss: evaluate(model, held).loss });
    }
    return result;
  });
  const whole = evaluate(model, dataset.validationBatches(shape)).loss;
  say(
    `Text: ${describe(history)}, ${whole.toFixed(3)} nats on the validation split (bigram ${bigram.toFixed(3)})`,
  );
  return {
    settings: { model: 'tiny, vocabulary of bytes', seed: SEED, ...TEXT, steps },
    tokens: { train: dataset.train.length, validation: dataset.validation.length },
    ...history.summary,
    validation,
    validation_loss: whole,
    bigram_loss: bigram,
    svg: chart('Text', history, {
      config,
      tokensPerStep: batch * seq,
      validation,
      references: [{ label: 'bigram', loss: bigram }],
    }),
  };
}

function tensor(ids, batch, seq) {
  return new Tensor(ids, [batch, seq], 'int32');
}

/**
 * Makes the steps and keeps what a curve and a summary need.
 * @param {any} trainer
 * @param {number} steps
 * @param {(step: number) => any} makeStep
 */
function train(trainer, steps, makeStep) {
  const losses = [];
  const loads = [];
  const [lossBins, loadBins] = [new BinnedSeries(BINS), new BinnedSeries(BINS)];
  const before = process.hrtime.bigint();
  for (let step = 1; step <= steps; step++) {
    const { crossEntropy, expertLoad } = makeStep(step);
    losses.push(crossEntropy);
    loads.push(expertLoad);
    lossBins.add(step, [crossEntropy]);
    loadBins.add(step, expertLoad.flat());
  }
  const seconds = Number(process.hrtime.bigint() - before) / 1e9;
  const ends = Math.max(1, Math.round(steps * END_SHARE));
  const summary = {
    first_loss: losses[0],
    final_loss: losses[steps - 1],
    seconds,
    skipped_steps: trainer.skippedSteps,
    /** Share of the busiest expert over an equal share, averaged over layers: 1 is balanced, the number of experts is the worst. */
    busiest_expert: {
      start: busiest(loads.slice(0, ends)),
      end: busiest(loads.slice(-ends)),
    },
    losses,
    expert_load: loadBins.bins.map(({ firstStep, lastStep, mean }) => ({
      first_step: firstStep,
      last_step: lastStep,
      shares: Array.from(mean),
    })),
  };
  return { summary, lossBins: lossBins.bins, loadBins: loadBins.bins };
}

/** Takes the busiest expert of the mean load, not the mean over each step's busiest: noise between steps is not imbalance. */
function busiest(loads) {
  const layers = loads[0].map((layer, l) =>
    layer.map((_, e) => loads.reduce((sum, load) => sum + load[l][e], 0) / loads.length),
  );
  const relative = layers.map((shares) => Math.max(...shares) * shares.length);
  return relative.reduce((sum, value) => sum + value, 0) / relative.length;
}

function describe({ summary }) {
  const { first_loss, final_loss, losses, seconds, busiest_expert } = summary;
  return (
    `loss ${first_loss.toFixed(3)} -> ${final_loss.toFixed(4)} in ${losses.length} steps and ` +
    `${seconds.toFixed(1)} s; the busiest expert's load ${busiest_expert.start.toFixed(2)} -> ` +
    `${busiest_expert.end.toFixed(2)} times an equal share`
  );
}

function chart(title, { summary, lossBins, loadBins }, { config, tokensPerStep, validation, references }) {
  return renderChart({
    title,
    subtitle: `tiny preset, loss ${summary.first_loss.toFixed(3)} to ${summary.final_loss.toFixed(4)}`,
    tokensPerStep,
    train: lossBins,
    validation,
    references,
    load: loadBins,
    expertsPerLayer: new Array(config.nLayers).fill(config.nExperts),
  });
}

module.exports = { fixedBatchRun, textRun };
