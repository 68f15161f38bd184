/** What every rank of test/model/experts runs in a thread of its own. Posts what it has computed. */
const { parentPort, workerData } = require('node:worker_threads');
const { dist, group, rank, scenario, options } = workerData;
const { Decoder, ExpertShard, joinThreadGroup, MoETransformer, Tensor } = require(dist);

const { path, dtype, counts, prompt, batches } = options;
const collectives = joinThreadGroup(group, rank, { timeoutMs: 60_000 });
const expertRanks = { collectives, counts };

const scenarios = {
  /** Rank 0 has the tokens, the others answer. */
  async lead() {
    if (rank > 0) {
      const shard = await ExpertShard.load(path, { dtype, expertRanks });
      shard.answerAll();
      return { weightBytes: shard.weightBytes };
    }
    const model = await MoETransformer.load(path, { dtype, expertRanks });
    const tokens = model.generateGreedy(prompt, prompt.length + 12);
    const decoder = new Decoder(model, { slots: 2 });
    const logits = new Float32Array(2 * model.vocabSize);
    model.expertExchange.tellWaiting();
    // A step that fails leaves the others where they were.
    let refused = null;
    try {
      decoder.step([{ slot: 0, tokens: [model.vocabSize] }], { logits });
    } catch (error) {
      refused = error.constructor.name;
    }
    decoder.step(
      [
        { slot: 0, tokens: prompt },
        { slot: 1, tokens: [1] },
      ],
      { logits },
    );
    const { weightBytes } = model;
    model.expertExchange.end();
    return { tokens, logits, refused, weightBytes };
  },

  /** All ranks have tokens of their own, in as many passes. */
  async together() {
    const model = await MoETransformer.load(path, { dtype, expertRanks });
    const logits = batches[rank].map((rows) => model.forward(Tensor.fromIds(rows)).data);
    return { logits };
  },

  /** What such a model refuses. */
  async refusals() {
    const model = await MoETransformer.load(path, { expertRanks });
    const messages = [];
    for (const call of [() => model.save('nowhere'), () => model.addLora({ targets: ['experts'] })]) {
      try {
        await call();
        messages.push(null);
      } catch (error) {
        messages.push(error.message);
      }
    }
    model.addLora({ targets: ['attention'] });
    return { messages };
  },

  /** Ranks that compute different layers. */
  async disagree() {
    const model = await MoETransformer.load(path, { expertRanks });
    try {
      if (rank === 0) model.expertExchange.end();
      else model.forward(Tensor.fromIds([[1, 2]]));
    } catch ({ code, message }) {
      return { code, message };
    }
    return {};
  },
};

scenarios[scenario]().then(async (result) => {
  if (result.code === undefined) await collectives.close().settled();
  parentPort.postMessage(result);
});
