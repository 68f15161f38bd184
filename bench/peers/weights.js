'use strict';
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

/** The files of our models' weights, each written once, in a process that returns its memory. */
class Weights {
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sgemoe-peers-'));
  /** @type {string[]} */
  #written = [];

  /** The folder of a scenario's model, as transformers reads it; undefined if it needs none. */
  of({ work, config }) {
    if (work !== 'forward' && work !== 'train') return undefined;
    const json = JSON.stringify(config);
    let index = this.#written.indexOf(json);
    if (index < 0) index = this.#written.push(json) - 1;
    const folder = path.join(this.#folder, String(index));
    if (!fs.existsSync(folder)) {
      const program = path.join(__dirname, 'writeWeights.js');
      execFileSync(process.execPath, [program, folder, json], { stdio: ['ignore', 'ignore', 'inherit'] });
    }
    return folder;
  }

  remove() {
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

module.exports = { Weights };
