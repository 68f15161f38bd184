/** What every rank of a group runs in the tests: each collective, with its own numbers. Returns what its arrays hold then. */

/** Numbers of which the order of summing changes the sum. */
const numberOf = (rank, i) => Math.fround(Math.sin((rank + 1) * (i + 1)) * 10 ** (i % 7));
const countsOf = (size) => [5, 0, 17, 3].slice(0, size);
const sentBy = (from, to) => (from * 3 + to * 5) % 7;
const sum = (counts) => counts.reduce((a, b) => a + b, 0);
const LARGE = 300_001;

/** @param {(transfer: import('../../../src').Transfer) => unknown} done waits for a transfer */
async function program(collectives, done) {
  const { rank, size } = collectives;
  const counts = countsOf(size);
  const total = sum(counts);
  const results = {};

  const x = Float32Array.from({ length: total + 3 }, (_, i) => numberOf(rank, i));
  const out = new Float32Array(counts[rank] + 2).fill(-1);
  await done(collectives.reduceScatter(x, 2, counts, out, 1));
  const ownAt = 2 + sum(counts.slice(0, rank));
  const inPlace = x.slice();
  await done(collectives.reduceScatter(inPlace, 2, Int32Array.from(counts), inPlace, ownAt));
  Object.assign(results, { x, out, inPlace });

  results.gathered = [];
  for (const Type of [Float32Array, Float64Array, Int32Array, Uint16Array, Uint8Array]) {
    const parts = new Type(total + 4);
    for (let i = 0; i < counts[rank]; i++) parts[ownAt + 1 + i] = 40 * rank + i + 1;
    await done(collectives.allGather(parts, 3, counts));
    results.gathered.push(parts);
  }

  const ranks = Array.from({ length: size }, (_, r) => r);
  const sends = ranks.map((r) => sentBy(rank, r));
  const receives = ranks.map((r) => sentBy(r, rank));
  const send = Int32Array.from(
    ranks.flatMap((r) => Array.from({ length: sends[r] }, (_, i) => 100 * rank + 10 * r + i)),
  );
  const receive = new Int32Array(sum(receives) + 2).fill(-1);
  // Waited for in another order than they were called.
  const doubles = Float64Array.from({ length: 5 }, (_, i) => numberOf(rank, i));
  const text = new Uint16Array(13).fill(7);
  if (rank === size - 1) text.set(Array.from('from the last', (c) => c.charCodeAt(0)));
  const transfers = [
    collectives.allToAll(send, 0, sends, receive, 1, receives),
    collectives.sumDoubles(doubles, 1, 3),
    collectives.broadcast(text, 1, 11, size - 1),
    collectives.barrier(),
  ];
  await done(transfers[2]);
  for (const transfer of transfers) await done(transfer);
  Object.assign(results, { receive, doubles, text });

  // Ranks of one parity, while the others do the same.
  const members = ranks.filter((r) => r % 2 === rank % 2);
  const few = collectives.subset(members);
  const fewCounts = members.map((r) => 2 * r + 1);
  const summed = Float32Array.from({ length: sum(fewCounts) }, (_, i) => numberOf(rank, i));
  await done(few.reduceScatter(summed, 0, fewCounts, summed, sum(fewCounts.slice(0, few.rank))));
  await done(few.allGather(summed, 0, fewCounts));
  const fewDoubles = Float64Array.from({ length: 3 }, (_, i) => numberOf(rank, i));
  await done(few.sumDoubles(fewDoubles, 0, 3));
  const named = Uint8Array.of(rank);
  await done(few.broadcast(named, 0, 1, few.size - 1));
  await done(few.barrier());
  results.subset = { rank: few.rank, size: few.size, summed, doubles: fewDoubles, named };

  const nothing = new Float32Array(0);
  const zeros = counts.map(() => 0);
  await done(collectives.reduceScatter(nothing, 0, zeros, nothing, 0));
  await done(collectives.allGather(nothing, 0, zeros));
  await done(collectives.allToAll(nothing, 0, zeros, new Float32Array(0), 0, zeros));
  await done(collectives.broadcast(nothing, 0, 0, 0));

  // More than fits into the shared memory at once, on the last rank alone.
  const large = new Float32Array(LARGE);
  if (rank === size - 1)
    large.forEach((_, i) => {
      large[i] = i;
    });
  await done(
    collectives.allGather(
      large,
      0,
      ranks.map((r) => (r === size - 1 ? LARGE : 0)),
    ),
  );
  results.largeIsRight = large.every((each, i) => each === i);
  await done(collectives.close());
  return results;
}

module.exports = { program, numberOf, countsOf, sentBy, sum };

const { isMainThread, parentPort, workerData } = require('node:worker_threads');
if (!isMainThread && workerData?.collectivesOf) {
  const { joinThreadGroup } = require(workerData.collectivesOf);
  const collectives = joinThreadGroup(workerData.group, workerData.rank, { timeoutMs: 60_000 });
  const done = workerData.blocks ? (transfer) => transfer.wait() : (transfer) => transfer.settled();
  program(collectives, done).then((results) => parentPort.postMessage(results));
}
