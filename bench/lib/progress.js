'use strict';

/** Shows progress on stderr: one line that changes on a terminal, one line for each scenario elsewhere. */
class Progress {
  #done = 0;
  #total;
  #out = process.stderr;

  /** @param {number} total */
  constructor(total) {
    this.#total = total;
  }

  /**
   * Notes that a scenario is done.
   * @param {string} id
   * @param {number} medianNs
   */
  done(id, medianNs) {
    this.#done++;
    const width = String(this.#total).length;
    const count = `${String(this.#done).padStart(width)}/${this.#total}`;
    const line = `[${count}] ${id.padEnd(24)} ${formatTime(medianNs).padStart(10)}`;
    this.#out.write(this.#out.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
  }

  /** Leaves the line. */
  end() {
    if (this.#out.isTTY && this.#done > 0) this.#out.write('\n');
  }
}

/** Nanoseconds with three digits and a unit: '812 us', '1.23 ms'. */
function formatTime(ns) {
  const [unit, divisor] = [
    ['s', 1e9],
    ['ms', 1e6],
    ['us', 1e3],
  ].find(([, size]) => ns >= Number(size)) ?? ['ns', 1];
  const value = ns / Number(divisor);
  return `${value >= 100 ? Math.round(value) : value.toPrecision(3)} ${unit}`;
}

module.exports = { Progress, formatTime };
