'use strict';
const { setTimeout: sleep } = require('node:timers/promises');
const { messageOf } = require('../lib/command');
const { summarise } = require('../lib/stats');

const WARMUP = 10;
const LONG_ROUNDS = 3;
/** The second run finds memory, and what was compiled, as all later ones do. */
const LONG_WARMUP = 2;
/** A pause in which the threads of the previous member stop spinning: OpenBLAS's threads spin for some 30 ms. */
const PAUSE_MS = 60;

/** @typedef {import('./members').Member} Member */

/**
 * @typedef {object} Plan
 * @property {number} trials
 * @property {number} rounds
 * @property {number} [warmup]
 * @property {number} [untimed]
 * @property {number[]} [tolerances] how far the numbers of members with our weights may be from ours, relatively
 * @property {boolean} [alone] whether a member's process ends after each turn, because the memory is too small for all
 */

/**
 * Times a scenario on every member in turn, round after round, so that other work of the machine hits all of them alike.
 * A member that fails, or comes to other numbers than ours, is left out of it.
 * @param {import('./scenarios').PeerScenario} scenario
 * @param {Member[]} members the first is ours
 * @param {Plan} plan
 * @param {(key: string, error: unknown) => void} onFailure
 */
async function compareOn(scenario, members, plan, onFailure) {
  const { rounds, block, warmup, untimed } = countsOf(scenario, plan);
  const turns = new Turns(scenario, members, { ...plan, warmup }, onFailure);
  if (!plan.alone) await turns.each(members, () => {});
  /** @type {Map<string, number[][]>} */
  const timings = new Map(members.map(({ key }) => [key, []]));
  for (let round = 0; round < rounds; round++) {
    // Every other round is reversed, so that no member always follows the same one.
    const order = round % 2 === 0 ? members : [...members].reverse();
    await turns.each(order, async ({ key, session }) => {
      await sleep(PAUSE_MS);
      timings.get(key)?.push(await session.block({ trials: block, inner: scenario.inner, untimed }));
    });
  }
  await turns.end();
  const { id, inner, bars, long: _, peers: __, weights: ___, ...params } = scenario;
  const present = members.filter(({ key }) => turns.failures[key] === undefined);
  const figures = Object.fromEntries(present.map(({ key }) => [key, figuresOf(key, timings)]));
  const { failures, hellos } = turns;
  const about = members.map(({ key, peer = key, form }) => [key, { peer, form, ...hellos[key] }]);
  const counts = { rounds, trials_per_round: block, inner_iterations: inner };
  return { id, params, bars, ...counts, members: Object.fromEntries(about), figures, failures };
}

/** The members that prepare a scenario and take turns in it, until they fail. */
class Turns {
  /** @type {Record<string, string>} the sentences of those that failed */
  failures = {};
  /** @type {Record<string, any>} what they say of themselves */
  hellos = {};
  #prepared = new Set();
  #ours;

  constructor(scenario, members, plan, onFailure) {
    this.scenario = scenario;
    this.members = members;
    this.plan = plan;
    this.onFailure = onFailure;
  }

  /** Calls `act` for each that hasn't failed, prepared. */
  async each(order, act) {
    if (this.plan.alone) await this.#closeAll();
    for (const member of order) {
      if (this.failures[member.key] !== undefined) continue;
      try {
        await this.#prepare(member);
        await act(member);
      } catch (error) {
        await this.#fail(member, error);
      }
      if (this.plan.alone) await this.#close(member);
    }
  }

  /** Lets all forget the scenario. */
  async end() {
    await this.each(
      this.members.filter(({ key }) => this.#prepared.has(key)),
      ({ session }) => session.drop(),
    );
  }

  async #prepare(member) {
    const { key, sameWeights } = member;
    if (this.#prepared.has(key)) return;
    member.session ??= await member.start();
    this.hellos[key] = member.session.hello;
    const { value } = await member.session.prepare(this.scenario, this.plan.warmup);
    this.#prepared.add(key);
    if (key === 'ours') this.#ours = value;
    else if (sameWeights) requireSame(value, this.#ours, this.plan.tolerances);
  }

  async #fail(member, error) {
    this.failures[member.key] = messageOf(error);
    this.onFailure(member.key, error);
    // It may have ended, and it may hold much memory.
    if (member.start) await this.#close(member);
  }

  async #closeAll() {
    for (const member of this.members) await this.#close(member);
  }

  async #close(member) {
    await member.session?.close();
    member.session = undefined;
    this.#prepared.delete(member.key);
  }
}

/** @throws Error if numbers that must be ours are others */
function requireSame(theirs, ours, tolerances) {
  if (ours === undefined) return;
  const near = (x, i) => Math.abs(x - ours[i]) <= tolerances[i] * Math.abs(ours[i]);
  if (Array.isArray(theirs) && theirs.length === ours.length && theirs.every(near)) return;
  throw new Error(
    `it computes ${show(theirs)} where ours computes ${show(ours)} (tolerances ${show(tolerances)})`,
  );
}

function show(numbers) {
  return [numbers ?? 'nothing'].flat().join(' and ');
}

/**
 * @param {import('./scenarios').PeerScenario} scenario
 * @param {Plan} plan
 */
function countsOf({ long }, { trials, rounds, warmup = WARMUP, untimed = 3 }) {
  if (long)
    return { rounds: Math.min(LONG_ROUNDS, rounds, trials), block: 1, warmup: LONG_WARMUP, untimed: 0 };
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
