import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';

const NOTES = `
The build needs a C++17 compiler, and CMake, or make and Python 3. If npm's own node-gyp isn't there, npx fetches the build
tool. SGEMOE_BUILD=cmake|gyp chooses one.

Examples:
  $ sgemoe build
`;

export function addBuildCommand(program: Command, context: CliContext): void {
  program
    .command('build')
    .description('Build the native addon of the installed package, for this machine.')
    .addHelpText('after', NOTES)
    .action(async () => {
      context.exitCode = await build(context.io);
    });
}

/** Runs the build script, the same one that a clone uses. */
async function build(io: CliIo): Promise<number> {
  const script = join(__dirname, '..', '..', '..', 'scripts', 'build-native.js');
  const child = spawn(process.execPath, [script], {
    env: io.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => io.stderr.write(text));
  const code = await new Promise<number | null>((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  if (code !== 0) return EXIT.failure;
  io.stdout.write('The addon is built. sgemoe info tells which backend computes.\n');
  return EXIT.ok;
}
