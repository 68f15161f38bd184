'use strict';
/**
 * A rank of bench/distributed.js: makes train steps, and rank 0 prints one line of JSON. Its argument is JSON, too: the model (a
 * preset's name or a ModelConfig's options), `batch` (of all ranks), `seq`, `microBatches`, `gradientCheckpointing`, `steps`, and
 * `expertParallel` unless each rank has all experts.
 */
const { Distributed, MoETransformer, Trainer } = require('../..');
const { batchOf, configOf, SEED } = require('./models');

/** At most. */
const WARM_UPS = 2;

main(JSON.parse(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});

async function main({
  model: shape,
  batch,
  seq,
  microBatches,
  gradientCheckpointing,
  steps,
  expertParallel = 1,
}) {
  const ranks = await Distributed.init();
  const sent = { bytes: 0 };
  const collectives = counted(ranks.collectives, sent);
  const expertRanks = expertParallel === 1 ? undefined : { collectives, groupSize: expertParallel };
  const model = MoETransformer.create(configOf(shape), { seed: SEED, expertRanks });
  const config = { microBatches, gradientCheckpointing, warmupSteps: 0, totalSteps: 100 };
  const trainer = new Trainer(model, config, { collectives });
  const { ids, targets } = batchOf(batch, seq, model.config.vocabSize);
  for (let step = 0; step < Math.min(WARM_UPS, steps); step++) trainer.trainStep(ids, targets);
  sent.bytes = 0;
  const times = [];
  let loss = 0;
  for (let step = 0; step < steps; step++) {
    const begun = performance.now();
    loss = trainer.trainStep(ids, targets).loss;
    times.push(performance.now() - begun);
  }
  // Of each rank the memory, and the sum of what they send.
  const numbers = new Float64Array(ranks.size + 1);
  numbers[ranks.rank] = 1024 * process.resourceUsage().maxRSS;
  numbers[ranks.size] = sent.bytes / steps;
  await ranks.collectives.sumDoubles(numbers, 0, numbers.length).settled();
  const parameters = model.config.totalParams();
  const result = {
    times,
    loss,
    sentBytes: numbers[ranks.size] / ranks.size,
    memoryBytes: Math.max(...numbers.subarray(0, ranks.size)),
    parameters,
  };
  if (ranks.rank === 0) console.log(JSON.stringify(result));
  await ranks.close();
}

/** The collectives, with the bytes that this rank sends to others in its sums of floats, its gathers and what goes from all to all. */
function counted(collectives, sent) {
  const { rank, size } = collectives;
  const toOthers = (counts) => counts.reduce((total, count) => total + count, 0) - counts[rank];
  return new Proxy(collectives, {
    get(target, name) {
      const value = target[name];
      if (typeof value !== 'function') return value;
      if (name === 'subset') return (members) => counted(target.subset(members), sent);
      return (x, at, counts, ...rest) => {
        const bytes = x?.BYTES_PER_ELEMENT;
        if (name === 'reduceScatter' || name === 'allToAll') sent.bytes += bytes * toOthers(counts);
        if (name === 'allGather') sent.bytes += bytes * counts[rank] * (size - 1);
        return value.call(target, x, at, counts, ...rest);
      };
    },
  });
}
