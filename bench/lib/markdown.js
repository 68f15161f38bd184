'use strict';

/** Prints a row of a Markdown table. @param {readonly unknown[]} cells */
function printRow(cells) {
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
}

module.exports = { printRow };
