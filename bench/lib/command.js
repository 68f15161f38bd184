'use strict';
/** What the commands in bench/ share: options that are checked, errors as a sentence, exit codes. */
const fs = require('node:fs');
const path = require('node:path');

const MOST = 2 ** 31 - 1;
const MOST_RUNS = 100_000;
const MOST_THREADS = 256;
const BACKENDS = ['auto', 'reference', 'wasm', 'builtin', 'openblas', 'accelerate', 'blas'];

if (!fs.existsSync(path.join(__dirname, '..', '..', 'dist', 'index.js'))) {
  console.error('bench: dist/ is missing; npm ci makes it, and so does npm run build:ts.');
  process.exit(1);
}

const { Command, CommanderError, InvalidArgumentError } = require('commander');

/** The command line asks for something impossible. */
class UsageError extends Error {}

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

/**
 * Parses an option's value as an integer in [min, max].
 * @param {number} min
 * @param {number} [max]
 * @returns {(text: string) => number}
 */
function integer(min, max = MOST) {
  return (text) => {
    const value = Number(text);
    if (/^[+-]?\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(
      `It must be an integer ${max === MOST ? `>= ${min}` : `in ${min}..${max}`}.`,
    );
  };
}

/**
 * Parses an option's value as integers in [min, max] with commas between.
 * @param {number} min
 * @param {number} max
 */
function integers(min, max) {
  return (text) => text.split(',').map(integer(min, max));
}

/**
 * Parses an option's value as some of `names`, with commas between.
 * @param {string[]} names
 * @returns {(text: string) => string[]}
 */
function someOf(names) {
  return (text) => {
    const chosen = text.split(',');
    if (chosen.every((name) => names.includes(name))) return chosen;
    throw new InvalidArgumentError(`It must be some of ${names.join(', ')}, with commas between.`);
  };
}

/** Adds --threads, which has to be in the environment before the library computes. */
function addThreadsOption(program) {
  return program.option(
    '--threads <n>',
    'size of the thread pool (default: what the library chooses)',
    integer(1, MOST_THREADS),
  );
}

/** Adds --threads as a list: each number of threads is measured, in processes of its own. */
function addThreadCountsOption(program) {
  return program.option(
    '--threads <list>',
    'numbers of threads, with commas between (default: what the library chooses)',
    integers(1, MOST_THREADS),
    [undefined],
  );
}

/** Adds --threads and --backend, which both have to be in the environment before the library computes. */
function addBackendOptions(program) {
  return addBackendOption(addThreadsOption(program));
}

function addBackendOption(program) {
  return program.option(
    '--backend <name>',
    `what computes: ${BACKENDS.join(', ')} (default: the fastest there is)`,
    backend,
  );
}

/** @param {{ threads?: number, backend?: string }} options */
function applyBackendOptions({ threads, backend: name }) {
  if (threads !== undefined) process.env.SGEMOE_THREADS = String(threads);
  if (name !== undefined) process.env.SGEMOE_BACKEND = name;
}

function backend(name) {
  if (BACKENDS.includes(name)) return name;
  throw new InvalidArgumentError(`It must be one of ${BACKENDS.join(', ')}.`);
}

/** Checks, before any work, that `file` can be written. @throws UsageError if it can't. */
function checkWritable(option, file) {
  const folder = path.dirname(path.resolve(file));
  if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`${option} ${file}: there is no folder ${folder}.`);
  }
  if (fs.statSync(file, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`${option} ${file} must be a file, it is a folder.`);
  }
}

/** The sentence of whatever was thrown. */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** Runs a command's main function; errors become a sentence on stderr and the exit code. */
function start(main) {
  main().catch((error) => {
    process.exitCode = exitCodeOf(error);
    // Commander has already printed its own errors.
    if (!(error instanceof CommanderError)) console.error(`bench: ${error.message}`);
    if (process.env.SGEMOE_DEBUG === '1') console.error(error.stack);
  });
}

/** 2 for wrong usage, 1 for a failure, 0 for a help that was asked for. */
function exitCodeOf(error) {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  return error instanceof UsageError || error.code?.startsWith('SGEMOE_DATA_') ? 2 : 1;
}

module.exports = {
  MOST_RUNS,
  UsageError,
  addBackendOption,
  addBackendOptions,
  addThreadCountsOption,
  addThreadsOption,
  applyBackendOptions,
  checkWritable,
  command,
  integer,
  integers,
  messageOf,
  someOf,
  start,
};
