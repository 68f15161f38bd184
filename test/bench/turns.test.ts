import { expect, test } from 'vitest';
import { compareOn } from '../../bench/peers/compare';

const SCENARIO = { id: 'x', work: 'train', inner: 1, long: true, peers: [], weights: '/w' };
const PLAN = { trials: 2, rounds: 2, tolerances: [0.01, 0.01] };

/** Members that compute `values` and take 1, 2, 3 ... ns, and what is done to them. */
function membersWith(values: number[][]) {
  const log: string[] = [];
  const open = new Set<string>();
  let mostOpen = 0;
  const members = values.map((value, i) => {
    const key = i === 0 ? 'ours' : `peer${i}`;
    const answer = (did: string, what: unknown) => {
      log.push(`${key} ${did}`);
      return Promise.resolve(what);
    };
    const session = {
      hello: { name: key },
      prepare: (_: unknown, warmup: number) => answer(`prepare ${warmup}`, { value }),
      block: () => answer('block', [i + 1]),
      drop: () => answer('drop', {}),
      close: () => answer('close', open.delete(key)),
    };
    const start = () => {
      open.add(key);
      mostOpen = Math.max(mostOpen, open.size);
      return Promise.resolve(session);
    };
    return { key, sameWeights: i > 0, start };
  });
  return { members, log, mostOpen: () => mostOpen };
}

/** Compares members that are stand-ins; returns the sentences of those that fail, too. */
async function compare(members: unknown[], plan: object) {
  const failed: string[] = [];
  const fail = (key: string, error: unknown) => failed.push(`${key}: ${error}`);
  const result = await compareOn(SCENARIO as never, members as never, plan as never, fail);
  return { ...result, failed };
}

test('members stay prepared over the turns where the memory is enough', async () => {
  const { members, log } = membersWith([[1], [1.009]]);
  const { figures, params, failed } = await compare(members, PLAN);
  expect(failed).toEqual([]);
  expect(log).toEqual([
    ...['ours prepare 2', 'peer1 prepare 2', 'ours block', 'peer1 block', 'peer1 block', 'ours block'],
    ...['ours drop', 'peer1 drop'],
  ]);
  expect(figures.peer1).toHaveProperty('ratio.per_round', [2, 2]);
  expect(params).toEqual({ work: 'train' });
});

test('alone, each begins anew in its turn, and no two are there at once', async () => {
  const values = [
    [1, 2],
    [1, 2.01],
  ];
  const { members, log, mostOpen } = membersWith(values);
  const { figures, failed } = await compare(members, { ...PLAN, alone: true });
  expect(failed).toEqual([]);
  expect(mostOpen()).toBe(1);
  const turn = (key: string) => [`${key} prepare 2`, `${key} block`, `${key} close`];
  expect(log).toEqual(['ours', 'peer1', 'peer1', 'ours'].flatMap(turn));
  expect(figures.peer1).toHaveProperty('ratio.median', 2);
});

test.each([[[1, 2.03]], [[1]], [[Number.NaN, 2]]])(
  'a member that computes %j instead of 1 and 2 is not timed',
  async (value) => {
    const { members, log } = membersWith([[1, 2], value, [1, 2]]);
    const { failed, failures, figures } = await compare(members, PLAN);
    const sentence = `it computes ${value.join(' and ')} where ours computes 1 and 2 (tolerances 0.01 and 0.01)`;
    expect(failed).toEqual([`peer1: Error: ${sentence}`]);
    expect(failures).toEqual({ peer1: sentence });
    expect(Object.keys(figures)).toEqual(['ours', 'peer2']);
    expect(log).toContain('peer1 close');
    expect(log).not.toContain('peer1 block');
  },
);
