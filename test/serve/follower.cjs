/** A thread that answers an engine's experts. After `dieAfter` exchanges it ends without a word. */
const { parentPort, workerData } = require('node:worker_threads');
const { dist, group, rank, path, dieAfter } = workerData;
const { ExpertShard, joinThreadGroup } = require(dist);

const collectives = joinThreadGroup(group, rank, { timeoutMs: 60_000 });
let exchanges = 0;
const allToAll = collectives.allToAll;
collectives.allToAll = (...args) => {
  if (++exchanges > dieAfter) process.exit(1);
  return allToAll.apply(collectives, args);
};
ExpertShard.load(path, { expertRanks: { collectives } }).then(async (shard) => {
  parentPort.postMessage('loaded');
  shard.answerAll();
  await collectives.close().settled();
  parentPort.postMessage('let go');
});
