/** What the ranks of a run are told when a call is wrong or a rank fails. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import type { Collectives } from '../../../src/backend/collectives';
import { soloCollectives } from '../../../src/backend/collectives/solo';
import { createThreadGroup, joinThreadGroup } from '../../../src/backend/collectives/threads';
import { expectError } from '../../helpers/expectError';
import { ROOT, runNode } from '../child';

const DIST = JSON.stringify(join(ROOT, 'dist'));

function pair(timeoutMs = 60_000): [Collectives, Collectives] {
  const group = createThreadGroup(2);
  return [joinThreadGroup(group, 0, { timeoutMs }), joinThreadGroup(group, 1, { timeoutMs })];
}

const floats = (length: number) => new Float32Array(length);

describe('wrong arguments', () => {
  const both = new Float32Array(8);
  const wrong: [string, RegExp, (c: Collectives) => unknown][] = [
    [
      'no array',
      /^reduceScatter: x must be a Float32Array, got Float64Array$/,
      (c) => c.reduceScatter(new Float64Array(2) as never, 0, [1, 1], floats(1), 0),
    ],
    [
      'a fractional offset',
      /^reduceScatter: outAt must be an integer >= 0, got 0.5$/,
      (c) => c.reduceScatter(floats(2), 0, [1, 1], floats(1), 0.5),
    ],
    [
      'a short output',
      /^reduceScatter: out is too short: needs 4 elements from offset 1, has 4$/,
      (c) => c.reduceScatter(floats(8), 0, [4, 4], floats(4), 1),
    ],
    [
      'an output across the input',
      /^reduceScatter: out must not overlap x$/,
      (c) => c.reduceScatter(both, 0, [4, 4], both, 2),
    ],
    [
      'a type that can not be sent',
      /^allGather: x must be a Float32Array or .*, got BigInt64Array$/,
      (c) => c.allGather(new BigInt64Array(2) as never, 0, [1, 1]),
    ],
    [
      'too few counts',
      /^allGather: counts must have a count for each of 2 ranks, has 1$/,
      (c) => c.allGather(floats(2), 0, [2]),
    ],
    [
      'a negative count',
      /^allGather: counts\[1\] must be an integer >= 0, got -1$/,
      (c) => c.allGather(floats(2), 0, [1, -1]),
    ],
    [
      'counts beyond all arrays',
      /^allGather: x is too short: needs 9007199254740991 elements from offset 1, has 2$/,
      (c) => c.allGather(floats(2), 0, [1, 2 ** 53 - 1]),
    ],
    [
      'no counts',
      /^allGather: counts must be an array, got null$/,
      (c) => c.allGather(floats(2), 0, null as never),
    ],
    [
      'two types',
      /^allToAll: receive must be a Float32Array, got Int32Array$/,
      (c) => c.allToAll(floats(2), 0, [1, 1], new Int32Array(2), 0, [1, 1]),
    ],
    [
      'one array for both',
      /^allToAll: receive must not overlap send$/,
      (c) => c.allToAll(both, 0, [1, 1], both, 1, [1, 1]),
    ],
    [
      'two counts for itself',
      /^allToAll: sendCounts and receiveCounts must agree on rank 0 itself, got 1 and 2$/,
      (c) => c.allToAll(floats(2), 0, [1, 1], floats(3), 0, [2, 1]),
    ],
    [
      'floats for doubles',
      /^sumDoubles: x must be a Float64Array, got Float32Array$/,
      (c) => c.sumDoubles(floats(2) as never, 0, 1),
    ],
    [
      'a text for a count',
      /^sumDoubles: count must be a number, got string$/,
      (c) => c.sumDoubles(new Float64Array(2), 0, '1' as never),
    ],
    [
      'a root that is no rank',
      /^broadcast: root must be an integer in \[0, 2\), got 2$/,
      (c) => c.broadcast(floats(2), 0, 2, 2),
    ],
  ];

  it.each(wrong)('such as %s are refused before anything is sent', async (_what, message, call) => {
    const [first, second] = pair();
    expect(() => call(first)).toThrow(message);
    // The other rank has heard of nothing: the run goes on.
    const [x, y] = [Float64Array.of(1), Float64Array.of(2)];
    await Promise.all([first.sumDoubles(x, 0, 1).settled(), second.sumDoubles(y, 0, 1).settled()]);
    expect([x[0], y[0]]).toEqual([3, 3]);
    await Promise.all([first.close().settled(), second.close().settled()]);
  });

  it('of one process are refused in the same words', () => {
    const solo = soloCollectives();
    expect(() => solo.allGather(floats(2), 0, [3])).toThrow(/^allGather: x is too short: needs 3 elements/);
    expect(() => solo.broadcast(floats(2), 0, 2, 1)).toThrow(
      /^broadcast: root must be an integer in \[0, 1\)/,
    );
  });

  it('are groups, ranks and options that are none', () => {
    expect(() => createThreadGroup(0)).toThrow(/^size must be an integer >= 1, got 0$/);
    expect(() => createThreadGroup(257)).toThrow(/^size must be at most 256, got 257$/);
    expect(() => createThreadGroup(4, { bytesPerRank: 31 })).toThrow(
      /^bytesPerRank must be an integer >= 32/,
    );
    expect(() => createThreadGroup(4, { bytesPerRank: 2 ** 31 })).toThrow(
      /^bytesPerRank must be at most 2\^30/,
    );
    expect(() => createThreadGroup(4, { bytes: 1 } as never)).toThrow(/unknown option 'bytes'/);
    const group = createThreadGroup(2);
    expect(() => joinThreadGroup(new ArrayBuffer(8) as never, 0)).toThrow(TypeError);
    expect(() => joinThreadGroup(new SharedArrayBuffer(0), 0)).toThrow(RangeError);
    expect(() => joinThreadGroup(new SharedArrayBuffer(group.byteLength), 0)).toThrow(RangeError);
    expect(() => joinThreadGroup(group, 2)).toThrow(/^rank must be in \[0, 2\), got 2$/);
    expect(() => joinThreadGroup(group, 1, { timeoutMs: 0 })).toThrow(/^timeoutMs must be > 0, got 0$/);
    const taken = joinThreadGroup(group, 1);
    expect(() => joinThreadGroup(group, 1)).toThrow(/^rank 1 of this group has been taken/);
    taken.abort('end of the test');
  });
});

describe('ranks that call different things', () => {
  it('all get the same sentence, for this call and all later ones', async () => {
    const [first, second] = pair();
    const message = /^Rank 0 calls barrier of Uint8Array, rank 1 calls allGather of Int32Array\.$/;
    const calls = [first.barrier(), second.allGather(new Int32Array(2), 0, [1, 1])];
    for (const call of [...calls, first.barrier(), second.close()]) {
      await expectError('SGEMOE_RANKS_MISMATCH', message, () => call.settled());
      await expectError('SGEMOE_RANKS_MISMATCH', message, () => call.wait());
    }
  });

  it('are told which sizes contradict each other', async () => {
    const cases: [RegExp, (c: Collectives) => { settled(): Promise<void> }][] = [
      [
        /^reduceScatter: rank 0 sends 8 bytes to rank 0, which expects 4|^reduceScatter: rank 0 sends 4 bytes to rank 1, which expects 8\.$/,
        (c) => c.reduceScatter(floats(4), 0, c.rank ? [1, 2] : [1, 1], floats(2), 0),
      ],
      [
        /^allToAll: rank 0 sends 4 bytes to rank 1, which expects 0\.$/,
        (c) => c.allToAll(floats(2), 0, [1, 1], floats(2), 0, c.rank ? [0, 1] : [1, 1]),
      ],
      [
        /^broadcast: rank 0 sends 4 bytes to rank 1, which expects 0\.$/,
        (c) => c.broadcast(floats(2), 0, 1, c.rank),
      ],
      [
        /^sumDoubles: rank 0 sends 8 bytes to rank 1, which expects 16\.$/,
        (c) => c.sumDoubles(new Float64Array(2), 0, 1 + c.rank),
      ],
    ];
    for (const [message, call] of cases) {
      const calls = pair().map(call);
      for (const each of calls) await expectError('SGEMOE_RANKS_MISMATCH', message, () => each.settled());
    }
  });
});

describe('a rank that fails', () => {
  it('ends the waiting of all others with its reason', async () => {
    const [first, second] = pair();
    const waiting = first.barrier().settled();
    second.abort(`disk full${' €'.repeat(1000)}`);
    const { message } = await expectError(
      'SGEMOE_RANKS_ABORTED',
      /^Rank 1 aborted the run: disk full €/,
      () => waiting,
    );
    expect(message).toMatch(/[€ ]$/);
    await expectError('SGEMOE_RANKS_ABORTED', /^Rank 1 aborted/, () => second.barrier().wait());
    first.abort('too late');
    await expectError('SGEMOE_RANKS_ABORTED', /^Rank 1 aborted/, () => first.close().wait());
    const solo = soloCollectives();
    solo.abort('no more');
    await expectError('SGEMOE_RANKS_ABORTED', /^Rank 0 aborted the run: no more$/, () =>
      solo.barrier().wait(),
    );
  });

  it('leaves what it had completed before done on the others', async () => {
    const [first, second] = pair();
    const early = first.barrier();
    second.barrier().wait();
    second.abort('later');
    early.wait();
    await expectError('SGEMOE_RANKS_ABORTED', /^Rank 1 aborted the run: later$/, () =>
      first.barrier().wait(),
    );
  });

  it('and never comes is waited for until the time limit, and both hear of it', async () => {
    for (const how of ['wait', 'settled'] as const) {
      const [first, second] = pair(30);
      const call = first.allGather(floats(2), 0, [1, 1]);
      await expectError('SGEMOE_RANKS_TIMEOUT', /^Rank 0 waited 30 ms for rank 1 in allGather\.$/, () =>
        call[how](),
      );
      await expectError('SGEMOE_RANKS_ABORTED', /^Rank 0 aborted the run: waited 30 ms/, () =>
        second.barrier()[how](),
      );
    }
  });

  it.each([
    ['ends', 'process.exit(0)'],
    ['throws', `throw new Error('on purpose')`],
  ])('as a thread that %s aborts the group', async (_how, end) => {
    const group = createThreadGroup(2);
    const script = `
      const { workerData } = require('node:worker_threads');
      const rank = require(${DIST}).joinThreadGroup(workerData, 1);
      rank.barrier().wait();
      ${end};
    `;
    const worker = new Worker(script, { eval: true, workerData: group });
    worker.on('error', () => {});
    const rank = joinThreadGroup(group, 0, { timeoutMs: 60_000 });
    await rank.barrier().settled();
    await expectError(
      'SGEMOE_RANKS_ABORTED',
      /^Rank 1 aborted the run: its thread ended before close\(\)$/,
      () => rank.barrier().settled(),
    );
  });

  it('can not call after close, nor abort what was closed', async () => {
    const [first, second] = pair();
    const closes = [first.close(), second.close()];
    expect(() => first.barrier()).toThrow(/^barrier: called after close$/);
    await Promise.all(closes.map((close) => close.settled()));
    first.abort('after the end');
    closes[1].wait();
    expect(() => first.close()).toThrow(TypeError);
  });
});

describe('a process that awaits another thread', () => {
  it('stays alive until it comes, and then ends by itself', async () => {
    const { code, stdout, stderr } = await runNode(`
      const { createThreadGroup, joinThreadGroup } = require(${DIST});
      const { Worker } = require('node:worker_threads');
      const group = createThreadGroup(2);
      const worker = new Worker(\`
        const { workerData } = require('node:worker_threads');
        const rank = require(${DIST}).joinThreadGroup(workerData, 1);
        setTimeout(() => rank.close().wait(), 200);
      \`, { eval: true, workerData: group });
      worker.unref();
      joinThreadGroup(group, 0).close().settled().then(() => console.log('closed'));
    `);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'closed\n', stderr: '' });
  });
});
