'use strict';
/**
 * node bench/convergence.js [--data path ...] [--fixed-steps n] [--text-steps n] [--out folder] [--threads n] [--backend name]
 *
 * Shows that the model learns: the tiny preset on one fixed batch, as in the other languages' convergence demo, and on
 * real text with a validation split. Writes convergence.json, and a curve with the experts' load for each.
 */
const fs = require('node:fs');
const path = require('node:path');
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');

const ROOT = path.resolve(__dirname, '..');
const MOST_STEPS = 1_000_000;
/** The project's own text; the validation split is the end of the last folder. */
const OWN_SOURCES = ['docs', 'native', 'bench', 'scripts', 'src'];
const EXTENSIONS = ['.md', '.ts', '.js', '.cc', '.h'];

start(main);

async function main() {
  const options = readOptions();
  applyBackendOptions(options);
  const { fixedBatchRun, textRun } = require('./lib/convergenceRuns');
  const { metadataOf } = require('./lib/metadata');
  const { TextDataset } = require('..');
  const own = OWN_SOURCES.map((folder) => path.join(ROOT, folder)).filter((folder) => fs.existsSync(folder));
  const dataset = await TextDataset.fromPaths(options.data ?? own, { extensions: EXTENSIONS });
  fs.mkdirSync(options.out, { recursive: true });
  const runs = {
    fixed_batch: fixedBatchRun({ steps: options.fixedSteps, say }),
    text: textRun({ dataset, steps: options.textSteps, say }),
  };
  const report = { metadata: metadataOf({ trials: 1, warmup: 0 }) };
  for (const [name, { svg, ...result }] of Object.entries(runs)) {
    report[name] = result;
    fs.writeFileSync(path.join(options.out, `${name}.svg`), svg);
  }
  fs.writeFileSync(path.join(options.out, 'convergence.json'), `${JSON.stringify(report, null, 2)}\n`);
  say(`Written to ${options.out}: convergence.json, ${Object.keys(runs).join('.svg, ')}.svg`);
}

/** @returns {any} */
function readOptions() {
  const program = command('convergence.js', 'Trains on a fixed batch and on text; writes JSON and curves.')
    .option('--data <path...>', "files or folders of text (default: this project's sources)")
    .option('--fixed-steps <n>', 'steps on the fixed batch', integer(1, MOST_STEPS), 1200)
    .option('--text-steps <n>', 'steps on the text', integer(1, MOST_STEPS), 600)
    .option('--out <folder>', 'where to write', path.join('runs', 'convergence'));
  return addBackendOptions(program).parse().opts();
}

function say(line) {
  process.stderr.write(`${line}\n`);
}
