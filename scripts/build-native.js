'use strict';
/**
 * Builds the addon into build/Release/sgemoe.node: `npm run build:native` in the clone, `sgemoe build` in an installed
 * package. A failed build exits with an error. With --if-possible, which `npm ci` in the clone gives (scripts/prepare.js), it
 * doesn't: the package then computes without the addon, and the loader tells the reason from build/native-status.json.
 *
 * SGEMOE_SKIP_BUILD=1 with --if-possible builds nothing; SGEMOE_BUILD=cmake|gyp chooses the tool (default: cmake-js if
 * it is installed, as in the clone, and CMake too; then node-gyp). npx fetches a missing tool, but not with --if-possible.
 */
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const BUILD_FOLDER = path.join(ROOT, 'build');
const ADDON = path.join(BUILD_FOLDER, 'Release', 'sgemoe.node');
const LOG = path.join(BUILD_FOLDER, 'native.log');
const STATUS = path.join(BUILD_FOLDER, 'native-status.json');
const TIME_LIMIT_MINUTES = 15;
const LOAD_LIMIT_MS = 60_000;
/** Folders that other scripts and tests keep in build/. */
const KEPT = ['zig', 'prebuild', 'platforms', 'reproducible', 'regions'];
/** The package that npx fetches: pinned, known to work here and to run on Node 20.17. */
const FETCHED = { cmake: 'cmake-js@8.0.0', gyp: 'node-gyp@12.1.0' };

main(!process.argv.includes('--if-possible'));

async function main(force) {
  let status;
  try {
    status = await buildWithFirst(force);
  } catch (error) {
    status = { ok: false, reason: `The build could not start: ${error.message}` };
  }
  if (status.ok) {
    return;
  }
  console.error(`sgemoe: the native addon was not built. ${status.reason}`);
  console.error(
    force ? `Log: ${LOG}` : 'sgemoe works without it, many times slower, and says at load how to get it.',
  );
  process.exitCode = force ? 1 : 0;
}

async function buildWithFirst(force) {
  if (!force && process.env.SGEMOE_SKIP_BUILD === '1') {
    return record({ ok: false, reason: 'SGEMOE_SKIP_BUILD=1 asked for no build.' });
  }
  const reasons = [];
  // A second tool may have what the first lacks; a developer wants the first one's errors.
  for (const tool of chosenTools(force).slice(0, force ? 1 : 2)) {
    const reason = await build(tool, force);
    if (reason === null) {
      return record({ ok: true, tool: tool.name });
    }
    reasons.push(`${tool.name}: ${reason}`);
  }
  return record({ ok: false, reason: reasons.join(' | '), log: fs.existsSync(LOG) ? LOG : undefined });
}

/** Returns null, or the reason why there is no addon now: after a failed build neither an old nor a partial one stays. */
async function build(tool, verbose) {
  if (tool.missing) {
    return tool.missing;
  }
  const previous = readStatus();
  if (previous.tool !== tool.name || previous.root !== ROOT) {
    clearBuildFolder();
  }
  fs.mkdirSync(BUILD_FOLDER, { recursive: true });
  record({ ok: false, tool: tool.name, reason: 'The build was interrupted.', log: LOG });
  const failure = (await withGypFile(() => run(tool, verbose))) ?? whyNotLoadable(ADDON);
  if (failure !== null) {
    fs.rmSync(ADDON, { force: true });
  } else if (path.basename(path.dirname(ROOT)) === 'node_modules') {
    removeIntermediates();
  }
  return failure;
}

/** The tools can't continue each other's work. */
function clearBuildFolder() {
  if (!fs.existsSync(BUILD_FOLDER)) return;
  for (const name of fs.readdirSync(BUILD_FOLDER).filter((entry) => !KEPT.includes(entry))) {
    fs.rmSync(path.join(BUILD_FOLDER, name), { recursive: true, force: true });
  }
}

/** A packed package has binding.gyp in native/, since package managers build every package with one in its root. */
async function withGypFile(build) {
  const file = path.join(ROOT, 'binding.gyp');
  if (fs.existsSync(file)) return build();
  fs.copyFileSync(path.join(ROOT, 'native', 'binding.gyp'), file);
  try {
    return await build();
  } finally {
    fs.rmSync(file, { force: true });
  }
}

/** Objects and makefiles serve the next build in the clone; an installed package is built once. */
function removeIntermediates() {
  const kept = new Set([ADDON, path.dirname(ADDON), LOG, STATUS]);
  for (const folder of [BUILD_FOLDER, path.dirname(ADDON)]) {
    for (const name of fs.readdirSync(folder)) {
      const file = path.join(folder, name);
      if (!kept.has(file)) {
        fs.rmSync(file, { recursive: true, force: true });
      }
    }
  }
}

// ---------------------------------------------------------------- tools

function chosenTools(force) {
  const choice = process.env.SGEMOE_BUILD;
  if (choice && choice !== 'cmake' && choice !== 'gyp') {
    throw new Error(`SGEMOE_BUILD must be cmake or gyp, got '${choice}'`);
  }
  if (choice) {
    return [choice === 'cmake' ? cmakeTool(force) : gypTool(force)];
  }
  const cmake = cmakeTool(force);
  return cmake.missing ? [gypTool(force)] : [cmake, gypTool(force)];
}

function jobs() {
  return String(Math.min(os.availableParallelism(), 8));
}

/** Only our own copy of cmake-js counts: another version further up may want to download headers. */
function cmakeTool(mayFetch) {
  const script = path.join(ROOT, 'node_modules', 'cmake-js', 'bin', 'cmake-js');
  if (!mayFetch && !fs.existsSync(script)) {
    return { name: 'cmake', missing: 'cmake-js is not installed' };
  }
  if (spawnSync('cmake', ['--version'], { stdio: 'ignore' }).status !== 0) {
    return { name: 'cmake', missing: 'CMake is not installed' };
  }
  // MSVC has no vector types.
  const toolset = process.platform === 'win32' ? ['--toolset', 'ClangCL'] : [];
  const args = ['build', '--parallel', jobs(), ...toolset];
  return fs.existsSync(script)
    ? { name: 'cmake', command: process.execPath, args: [script, ...args] }
    : { name: 'cmake', ...fetched(FETCHED.cmake, args) };
}

function gypTool(mayFetch) {
  const args = ['configure', 'build', '--release', '--jobs', jobs()];
  const headers = installedHeaders();
  if (headers && !process.env.npm_config_nodedir) {
    args.push(`--nodedir=${headers}`);
  }
  const script = gypScripts().find((file) => file && fs.existsSync(file));
  if (script) return { name: 'gyp', command: process.execPath, args: [script, ...args] };
  return mayFetch
    ? { name: 'gyp', ...fetched(FETCHED.gyp, args) }
    : { name: 'gyp', command: 'node-gyp', args, shell: process.platform === 'win32' };
}

/** A tool of the registry, run by npx. */
function fetched(tool, args) {
  const prefix = path.dirname(process.execPath);
  const script = [path.join(prefix, '..', 'lib'), prefix]
    .map((folder) => path.join(folder, 'node_modules', 'npm', 'bin', 'npx-cli.js'))
    .find((file) => fs.existsSync(file));
  const rest = ['--yes', tool, ...args];
  return script
    ? { command: process.execPath, args: [script, ...rest] }
    : { command: 'npx', args: rest, shell: process.platform === 'win32' };
}

/** The node-gyp that npm, or another package manager, brings along. */
function gypScripts() {
  const bundled = path.join('node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const { npm_config_node_gyp: named, npm_execpath: npmCli } = process.env;
  const prefix = path.dirname(process.execPath);
  return [
    named,
    npmCli && path.join(path.dirname(npmCli), '..', bundled),
    path.join(prefix, '..', 'lib', 'node_modules', 'npm', bundled),
    path.join(prefix, 'node_modules', 'npm', bundled),
  ];
}

/** The folder whose include/node came with this Node, so that nothing is downloaded. */
function installedHeaders() {
  const prefix = path.dirname(path.dirname(process.execPath));
  const needed = ['node_api.h', 'common.gypi', 'config.gypi'];
  return needed.every((name) => fs.existsSync(path.join(prefix, 'include', 'node', name))) ? prefix : null;
}

// ---------------------------------------------------------------- running

/** Runs a tool with its output in the log; null, or the reason of the failure. */
function run(tool, verbose) {
  const posix = process.platform !== 'win32';
  const log = fs.openSync(LOG, 'w');
  const child = spawn(tool.command, tool.args, {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    shell: tool.shell ?? false,
    detached: posix, // its own process group, so that compilers end with it
    windowsHide: true,
  });
  const stop = () => {
    if (posix) {
      process.kill(-child.pid, 'SIGKILL');
    } else {
      spawnSync('taskkill', ['/pid', String(child.pid), '/T', '/F'], { stdio: 'ignore' });
    }
  };
  const interrupted = () => {
    stop();
    process.exit(130);
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      fs.writeSync(log, chunk);
      if (verbose) {
        process.stderr.write(chunk);
      }
    });
  }
  return new Promise((resolve) => {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      stop();
    }, TIME_LIMIT_MINUTES * 60_000);
    const finish = (reason) => {
      clearTimeout(timer);
      process.removeListener('SIGINT', interrupted);
      process.removeListener('SIGTERM', interrupted);
      fs.closeSync(log);
      resolve(reason);
    };
    process.on('SIGINT', interrupted);
    process.on('SIGTERM', interrupted);
    child.once('error', (error) => finish(`${tool.command} could not be started: ${error.message}`));
    child.once('close', (code) => {
      if (timedOut) {
        finish(`stopped after ${TIME_LIMIT_MINUTES} minutes`);
      } else {
        finish(code === 0 ? null : reasonFromLog());
      }
    });
  });
}

/** The most useful line of the log: one that a compiler or a tool calls an error, else one about something missing, else the last. */
function reasonFromLog() {
  const lines = fs
    .readFileSync(LOG, 'utf8')
    .split('\n')
    .map((line) => line.replace(/^gyp (ERR!|verb|info|http)\s*(stack\s*)?/, '').trim())
    .filter((line) => line !== '');
  const telling = [/error: /i, /not found|could be found/i, /\berror\b/i]
    .map((pattern) => lines.find((line) => pattern.test(line)))
    .find((line) => line !== undefined);
  return (telling ?? lines.at(-1) ?? 'the tool said nothing').slice(0, 300);
}

/** Loads an addon in a separate process, which may crash; returns null if it works, else the reason. */
function whyNotLoadable(file) {
  if (!fs.existsSync(file)) {
    return `the build made no ${path.relative(ROOT, file)}`;
  }
  const script = "require(process.argv[1]).create('builtin', null, null).threads()";
  const child = spawnSync(process.execPath, ['-e', script, file], {
    encoding: 'utf8',
    timeout: LOAD_LIMIT_MS,
    windowsHide: true,
  });
  if (child.status === 0) {
    return null;
  }
  const message = /^\w*Error: .*$/m.exec(child.stderr ?? '')?.[0];
  return `the addon does not load: ${message ?? child.error?.message ?? child.signal ?? `exit code ${child.status}`}`;
}

// ---------------------------------------------------------------- records

function record(status) {
  try {
    fs.mkdirSync(BUILD_FOLDER, { recursive: true });
    fs.writeFileSync(
      STATUS,
      `${JSON.stringify({ ...status, root: ROOT, node: process.version }, null, 2)}\n`,
    );
  } catch {
    // The folder is read-only: the loader then says what it tried.
  }
  return status;
}

function readStatus() {
  try {
    return JSON.parse(fs.readFileSync(STATUS, 'utf8'));
  } catch {
    return {};
  }
}
