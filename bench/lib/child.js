'use strict';
/**
 * The process of one axis (timings) or one scenario (peak memory). It takes one message, a Job, and answers with one message
 * for each scenario. It loads only what the scenarios need, since its memory is measured.
 *
 * @typedef {{ axis: string, ids: string[], runs: import('./measure').Runs, purpose: 'time' | 'memory' }} Job
 * @typedef {{ id: string, result?: any, peakRss?: number, error?: string }} Answer
 */
const { peakRss } = require('./memory');
const { measure, runForMemory } = require('./measure');

process.once('message', (job) => {
  answerAll(/** @type {Job} */ (job)).finally(() => process.disconnect());
});
// Without its parent nobody reads the answers, so the process ends.
process.once('disconnect', () => process.exit());

/** @param {Job} job */
async function answerAll({ axis, ids, runs, purpose }) {
  for (const id of ids) {
    /** @type {Answer} */
    let answer;
    try {
      const scenario = scenarioOf(axis, id);
      answer =
        purpose === 'time'
          ? { id, result: await measure(scenario, runs) }
          : { id, peakRss: await runForMemory(scenario, runs, peakRss) };
    } catch (error) {
      answer = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    await new Promise((sent) => process.send?.(answer, sent));
    if (answer.error !== undefined) return;
  }
}

function scenarioOf(axis, id) {
  const found = require('../axes')
    .scenariosOf(axis)
    .find((scenario) => scenario.id === id);
  if (found === undefined) throw new Error(`axis ${axis} has no scenario ${id}`);
  return found;
}
