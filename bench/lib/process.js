'use strict';
const { fork } = require('node:child_process');
const path = require('node:path');

/**
 * Runs a job in a new process and calls `onAnswer` with each scenario's answer.
 * @param {import('./child').Job} job
 * @param {Record<string, string>} env added to this process's
 * @param {(answer: import('./child').Answer) => void} onAnswer
 * @returns {Promise<void>}
 */
function runJob(job, env, onAnswer) {
  return new Promise((resolve, reject) => {
    const child = fork(path.join(__dirname, 'child.js'), {
      // Output of a scenario must not reach this process's stdout.
      stdio: ['ignore', 2, 2, 'ipc'],
      env: { ...process.env, ...env },
    });
    const unanswered = new Set(job.ids);
    let failure;
    child.on('message', (message) => {
      const answer = /** @type {import('./child').Answer} */ (message);
      unanswered.delete(answer.id);
      if (answer.error !== undefined) failure = `scenario ${answer.id} failed: ${answer.error}`;
      else onAnswer(answer);
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (failure === undefined && unanswered.size > 0) {
        failure = `the process of axis ${job.axis} ended (${signal ?? `exit code ${code}`}) before ${[...unanswered][0]}`;
      }
      if (failure === undefined) resolve();
      else reject(new Error(failure));
    });
    child.send(job);
  });
}

module.exports = { runJob };
