'use strict';
/** What the commands in bench/ share: options that are checked, errors as a sentence, exit codes. */
const fs = require('node:fs');
const path = require('node:path');

const MOST_RUNS = 100_000;
const MOST_THREADS = 256;
const BACKENDS = ['auto', 'reference', 'builtin', 'openblas', 'accelerate', 'blas'];

if (!fs.existsSync(path.join(__dirname, '..', '..', 'dist', 'index.js'))) {
  console.error('bench: dist/ is missing; npm ci makes it, and so does npm run build:ts.');
  process.exit(1);
}

const { Command, InvalidArgumentError } = require('commander');
const { UsageError, reportError } = require('../../dist/cli/terminal/usageError');
const { processIo } = require('../../dist/cli/terminal/io');
const { integer } = require('../../dist/cli/options/values');

/**
 * @param {string} name
 * @param {string} description
 */
function command(name, description) {
  return new Command(`node bench/${name}`)
    .description(description)
    .exitOverride()
    .configureHelp({ helpWidth: 100 });
}

/** --threads, which has to be in the environment before the library is asked to compute. */
function addThreadsOption(program) {
  return program.option(
    '--threads <n>',
    'size of the thread pool (default: what the library chooses)',
    integer(1, MOST_THREADS),
  );
}

/** --threads and --backend, likewise. */
function addBackendOptions(program) {
  return addThreadsOption(program).option(
    '--backend <name>',
    `what computes: ${BACKENDS.join(', ')} (default: the fastest there is)`,
    backend,
  );
}

function applyBackendOptions({ threads, backend: name }) {
  if (threads !== undefined) process.env.SGEMOE_THREADS = String(threads);
  if (name !== undefined) process.env.SGEMOE_BACKEND = name;
}

function backend(name) {
  if (BACKENDS.includes(name)) return name;
  throw new InvalidArgumentError(`It must be one of ${BACKENDS.join(', ')}.`);
}

/** @throws UsageError when nothing could be written there, before the work that would be lost. */
function checkWritable(option, file) {
  const folder = path.dirname(path.resolve(file));
  if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`${option} ${file}: there is no folder ${folder}.`);
  }
  if (fs.statSync(file, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`${option} ${file} must be a file, it is a folder.`);
  }
}

/** Runs a command's main function; errors become a sentence on stderr and the exit code. */
function start(main) {
  main().catch((error) => {
    process.exitCode = reportError(error, processIo());
  });
}

module.exports = {
  MOST_RUNS,
  UsageError,
  addBackendOptions,
  addThreadsOption,
  applyBackendOptions,
  checkWritable,
  command,
  integer,
  start,
};
