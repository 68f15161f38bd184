import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { formatBytes } from '../../base/formatBytes';
import { readRun } from '../report/readRun';
import type { RunReport } from '../report/reportData';
import { GENERATOR, renderReport } from '../report/reportPage';
import { formatCount, shellQuote } from '../terminal/format';
import type { CliContext, CliIo } from '../terminal/io';
import { UsageError } from '../terminal/usageError';

const MOST_RUNS = 16;

const NOTES = `
The page is one HTML file that needs nothing else, for any browser. It shows curves of losses, learning rate, gradient norm and
speed, the load of the experts, samples if the run wrote any (samples.jsonl), results and settings. Several runs are drawn over
each other and compared in tables. A run may still be going on. Curves of long runs are thinned; the extremes stay.

Examples:
  $ sgemoe report runs/book
  $ sgemoe report runs/book runs/wide --out compare.html
`;

export function addReportCommand(program: Command, { io }: CliContext): void {
  program
    .command('report')
    .description('Draw one or several training runs as a page for the browser.')
    .argument('<runs...>', `folders of runs, the --out of sgemoe train, at most ${MOST_RUNS}`)
    .option('--out <file>', 'HTML file to write (default: report.html in the folder of the first run)')
    .addHelpText('after', NOTES)
    .action((paths: string[], options: { out?: string }) => reportCommand(paths, options, io));
}

async function reportCommand(paths: string[], options: { out?: string }, io: CliIo): Promise<void> {
  if (paths.length > MOST_RUNS) {
    throw new UsageError(`A report shows at most ${MOST_RUNS} runs, got ${paths.length}.`);
  }
  const runs: RunReport[] = [];
  // A folder named twice is one run.
  for (const path of new Map(paths.map((path) => [resolve(path), path])).values())
    runs.push(await readRun(path));
  const { out = join(paths[0], 'report.html') } = options;
  await refuseOtherFile(out);
  const page = renderReport(withUniqueNames(runs));
  await writeFile(out, page).catch((error: Error) => {
    throw new UsageError(`--out ${out} can't be written: ${error.message}`, { cause: error });
  });
  const count = runs.length === 1 ? '1 run' : `${runs.length} runs`;
  io.stdout.write(`${shellQuote(out)}: ${count}, ${formatBytes(Buffer.byteLength(page))}\n`);
  for (const { name, steps, skippedSteps } of runs) {
    if (skippedSteps === 0) continue;
    io.stdout.write(
      `${name}: ${formatCount(skippedSteps)} of ${formatCount(steps)} steps skipped, loss or gradient not finite\n`,
    );
  }
}

/** @throws UsageError for an existing file that isn't a report. */
async function refuseOtherFile(path: string): Promise<void> {
  const content = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw new UsageError(`--out ${path} can't be written: ${error.message}`, { cause: error });
  });
  if (content === null || content.includes(GENERATOR)) return;
  throw new UsageError(`--out ${path} is a file that is not a report of sgemoe; choose another name.`);
}

/** Runs with the same name are named by their paths. */
function withUniqueNames(runs: readonly RunReport[]): RunReport[] {
  const names = runs.map(({ name }) => name);
  return runs.map((run) => {
    const unique = names.filter((name) => name === run.name).length === 1;
    return unique ? run : { ...run, name: run.path };
  });
}
