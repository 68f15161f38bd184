/**
 * What each rank of test/backend/collectives/mpi.slow.test.ts runs: node mpiProgram.cjs <mark> <scenario> <folder>. Writes lines of JSON
 * to a file of its own in the folder: launchers mix long lines that ranks print.
 */
const { appendFileSync, readFileSync } = require('node:fs');
const { join } = require('node:path');
const { Distributed } = require(join(__dirname, '..', '..', '..', 'dist'));
const { program } = require('./program.cjs');

const [, , , scenario, folder] = process.argv;
const say = (what) => appendFileSync(join(folder, `${process.pid}`), `${JSON.stringify(what)}\n`);
const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (ArrayBuffer.isView(v) ? [...v] : v)));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The code and message of what a transfer throws. */
async function failureOf(transfer) {
  try {
    await transfer.settled();
    return null;
  } catch ({ code, message }) {
    return { code, message };
  }
}

const scenarios = {
  async waits({ rank, collectives }) {
    say({ rank, results: plain(await program(collectives, (transfer) => transfer.wait())) });
  },

  async settles({ rank, size, localRank, localSize, hosts, mpi, collectives }) {
    const results = plain(await program(collectives, (transfer) => transfer.settled()));
    say({ rank, size, localRank, localSize, hosts, mpi, results });
  },

  /** The last rank comes late; the first one's timers go on. */
  async alive({ rank, size, collectives }) {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    if (rank === size - 1) await sleep(500);
    await collectives.barrier().settled();
    clearInterval(timer);
    say({ rank, ticks });
    await collectives.close().settled();
  },

  /** Bytes by which the first sum enlarges the process. */
  async scratch({ rank, collectives }) {
    const ownBytes = () =>
      1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
    const x = new Float64Array(1);
    collectives.barrier().wait();
    const before = ownBytes();
    collectives.sumDoubles(x, 0, 1).wait();
    say({ rank, bytes: ownBytes() - before });
    await collectives.close().settled();
  },

  async mismatch({ rank, collectives }) {
    const transfer = rank === 0 ? collectives.barrier() : collectives.allGather(new Int32Array(2), 0, [1, 1]);
    say({ rank, ...(await failureOf(transfer)), later: (await failureOf(collectives.barrier())).code });
    process.exitCode = 3;
  },

  async aborts({ rank, collectives }) {
    await collectives.barrier().settled();
    if (rank === 1) collectives.abort('disk full €');
    say({ rank, ...(await failureOf(collectives.barrier())) });
    process.exitCode = 4;
  },

  /** A program that forgets close, or is told to end. */
  async exits({ rank, collectives }) {
    collectives.barrier().wait();
    if (rank === 1) process.exit(0);
    say({ rank, ...(await failureOf(collectives.barrier())) });
  },

  async throws({ rank, collectives }) {
    collectives.barrier().wait();
    if (rank === 1) throw new Error('on purpose');
    say({ rank, ...(await failureOf(collectives.barrier())) });
  },

  async late({ rank, collectives }) {
    // Longer than the limit.
    if (rank === 1) await sleep(3000);
    say({ rank, ...(await failureOf(collectives.sumDoubles(new Float64Array(1), 0, 1))) });
  },
};

Distributed.init({ timeoutMs: scenario === 'late' ? 500 : 100_000 }).then(
  (distributed) => scenarios[scenario](distributed),
  ({ code, message }) => {
    say({ code, message });
    process.exitCode = 2;
  },
);
