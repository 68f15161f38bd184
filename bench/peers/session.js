'use strict';
const { spawn } = require('node:child_process');
const readline = require('node:readline');

const KEPT_STDERR = 4000;

/** A process that holds one scenario at a time, warm, and times blocks of its runs when asked: see serving.py. */
class Session {
  /** @type {any} what the process says of itself */
  hello;
  #child;
  #lines;
  #stderr = '';
  #ended;
  #limitS;

  /**
   * Starts the process and waits for its first line.
   * @param {string} command
   * @param {string[]} args
   * @param {Record<string, string | undefined>} env
   * @param {number} [limitS] seconds after which a process that hasn't answered a request is killed
   * @throws Error with a sentence when it doesn't start, or ends before
   */
  static async start(command, args, env, limitS) {
    const session = new Session(command, args, env, limitS);
    try {
      session.hello = await session.#answer();
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  constructor(command, args, env, limitS) {
    this.#limitS = limitS;
    this.#child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(error.message));
      this.#child.on('close', (code, signal) => resolve(this.#lastWords() ?? signal ?? `exit code ${code}`));
    });
    // A request to a process that has ended fails here too; `ended` reports it.
    this.#child.stdin.on('error', () => {});
    this.#child.stderr.on('data', (text) => {
      this.#stderr = (this.#stderr + text).slice(-KEPT_STDERR);
    });
    this.#lines = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Builds a scenario and runs it `warmup` times. @throws Error with the process's sentence */
  prepare(scenario, warmup) {
    return this.#ask({ op: 'prepare', scenario, warmup });
  }

  /**
   * Nanoseconds of a run, for each trial.
   * @returns {Promise<number[]>}
   */
  async block({ trials, inner, untimed }) {
    const { timings_ns } = await this.#ask({ op: 'block', trials, inner, untimed });
    return timings_ns;
  }

  /** Forgets the scenario. */
  drop() {
    return this.#ask({ op: 'drop' });
  }

  /** Ends the process and waits for it. */
  async close() {
    this.#child.stdin.end();
    await this.#ended;
  }

  async #ask(request) {
    let late = false;
    const kill = () => {
      late = true;
      this.#child.kill('SIGKILL');
    };
    const timer = this.#limitS === undefined ? undefined : setTimeout(kill, 1000 * this.#limitS);
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    try {
      return await this.#answer();
    } catch (error) {
      throw late ? new Error(`it took longer than ${this.#limitS} s`) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #answer() {
    const next = await this.#lines.next();
    if (next.done) throw new Error(`its process ended: ${await this.#ended}`);
    const answer = JSON.parse(next.value);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  #lastWords() {
    return this.#stderr.trimEnd().split('\n').pop() || undefined;
  }
}

module.exports = { Session };
