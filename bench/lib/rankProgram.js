'use strict';
/**
 * A rank of bench/distributed.js: makes train steps, and rank 0 prints one line of JSON. Its argument is JSON, too: the model (a
 * preset's name or a ModelConfig's options), `batch` (of all ranks), `seq`, `microBatches`, `gradientCheckpointing`, `steps`.
 */
const { Distributed, MoETransformer, Trainer } = require('../..');
const { batchOf, configOf, SEED } = require('./models');

/** At most. */
const WARM_UPS = 2;

main(JSON.parse(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});

async function main({ model: shape, batch, seq, microBatches, gradientCheckpointing, steps }) {
  const ranks = await Distributed.init();
  const sent = { bytes: 0 };
  const model = MoETransformer.create(configOf(shape), { seed: SEED });
  const collectives = counted(ranks.collectives, sent);
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
  const numbers = new Float64Array(ranks.size);
  numbers[ranks.rank] = 1024 * process.resourceUsage().maxRSS;
  await ranks.collectives.sumDoubles(numbers, 0, ranks.size).settled();
  const parameters = model.config.totalParams();
  const result = {
    times,
    loss,
    sentBytes: sent.bytes / steps,
    memoryBytes: Math.max(...numbers),
    parameters,
  };
  if (ranks.rank === 0) console.log(JSON.stringify(result));
  await ranks.close();
}

/** The collectives, with the bytes that this rank sends to others in its sums and gathers of floats. */
function counted(collectives, sent) {
  const { rank } = collectives;
  const sum = (counts) => counts.reduce((total, count) => total + count, 0);
  return new Proxy(collectives, {
    get(target, name) {
      const value = target[name];
      if (typeof value !== 'function') return value;
      return (...args) => {
        const counts = args[2];
        const others = collectives.size - 1;
        if (name === 'reduceScatter') sent.bytes += 4 * (sum(counts) - counts[rank]);
        if (name === 'allGather') sent.bytes += 4 * counts[rank] * others;
        if (name === 'allToAll') sent.bytes += 4 * (sum(counts) - counts[rank]);
        return value.apply(target, args);
      };
    },
  });
}
