'use strict';
const { setTimeout: sleep } = require('node:timers/promises');
const { summarise } = require('../lib/stats');

const WARMUP = 10;
const LONG_ROUNDS = 3;
/** A pause in which the threads of the previous member stop spinning: OpenBLAS's threads spin for some 30 ms. */
const PAUSE_MS = 60;

/**
 * @typedef {object} Member
 * @property {string} key 'ours', or a peer's
 * @property {import('./session').Session} session
 */

/** @typedef {{ trials: number, rounds: number, warmup?: number, untimed?: number }} Plan */

/**
 * Times a scenario on every member in turn, round after round, so that other work of the machine hits all of them alike.
 * A member that fails is left out of it.
 * @param {import('./scenarios').PeerScenario} scenario
 * @param {Member[]} members the first is ours
 * @param {Plan} plan
 * @param {(key: string, error: unknown) => void} onFailure
 */
async function compareOn(scenario, members, plan, onFailure) {
  const { rounds, block, warmup, untimed } = countsOf(scenario, plan);
  let present = await those(members, onFailure, ({ session }) => session.prepare(scenario, warmup));
  /** @type {Map<string, number[][]>} */
  const timings = new Map(present.map(({ key }) => [key, []]));
  for (let round = 0; round < rounds; round++) {
    // Every other round is reversed, so that no member always follows the same one.
    const order = round % 2 === 0 ? present : [...present].reverse();
    const alive = await those(order, onFailure, async ({ key, session }) => {
      await sleep(PAUSE_MS);
      timings.get(key)?.push(await session.block({ trials: block, inner: scenario.inner, untimed }));
    });
    present = present.filter((member) => alive.includes(member));
  }
  await those(present, onFailure, ({ session }) => session.drop());
  const { id, inner, long: _, ...params } = scenario;
  const figures = Object.fromEntries(present.map(({ key }) => [key, figuresOf(key, timings)]));
  return { id, params, rounds, trials_per_round: block, inner_iterations: inner, figures };
}

/** The members for which `act` succeeds. */
async function those(members, onFailure, act) {
  const good = [];
  for (const member of members) {
    try {
      await act(member);
      good.push(member);
    } catch (error) {
      onFailure(member.key, error);
    }
  }
  return good;
}

/**
 * @param {import('./scenarios').PeerScenario} scenario
 * @param {Plan} plan
 */
function countsOf({ long }, { trials, rounds, warmup = WARMUP, untimed = 3 }) {
  if (long) return { rounds: Math.min(LONG_ROUNDS, rounds, trials), block: 1, warmup: 1, untimed: 0 };
  const most = Math.min(rounds, trials);
  // The first runs of a block find the caches as another process left them.
  return { rounds: most, block: Math.ceil(trials / most), warmup, untimed };
}

/** Time of a run over all trials, and its ratio to ours: the ratio of the medians, round by round. */
function figuresOf(key, timings) {
  const rounds = timings.get(key);
  const { median: median_ns, q1: q1_ns, q3: q3_ns } = summarise(rounds.flat());
  const figures = { median_ns, q1_ns, q3_ns, timings_ns: rounds };
  if (key === 'ours') return figures;
  const medians = (of) => of.map((block) => summarise(block).median);
  const ours = medians(timings.get('ours'));
  const per_round = medians(rounds).map((time, round) => time / ours[round]);
  const { median, q1, q3 } = summarise(per_round);
  return { ...figures, ratio: { median, q1, q3, per_round } };
}

module.exports = { WARMUP, compareOn };
