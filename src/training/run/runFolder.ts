import { existsSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CHECKPOINT_FILES } from '../../checkpoint/checkpoint';
import { jsonFile, readJson } from '../../checkpoint/jsonFile';
import { makeFolder } from '../../checkpoint/makeFolder';
import { locateFile, replaceFiles } from '../../checkpoint/replaceFiles';
import { HISTORY_FOLDER } from '../../checkpoint/retention';
import { hasTraining } from '../../checkpoint/trainingFiles';
import { UsageError } from '../../cli/terminal/usageError';

/** The folder that a training run writes. */
export class RunFolder {
  constructor(readonly path: string) {}

  /** The settings of the run and, at its end, its result. */
  get runFile(): string {
    return join(this.path, RUN_FILE);
  }

  get metricsFile(): string {
    return join(this.path, 'metrics.jsonl');
  }

  /** Samples written on the way, one JSON object { step, prompt, text } a line. */
  get samplesFile(): string {
    return join(this.path, 'samples.jsonl');
  }

  get chartFile(): string {
    return join(this.path, 'curve.svg');
  }

  /** Checkpoint of the lowest validation loss; the last one is in the folder itself. */
  get best(): string {
    return join(this.path, 'best');
  }

  /** Whole or not at all: a run is resumed by it. */
  async writeRun(content: object): Promise<void> {
    await replaceFiles(this.path, [jsonFile(RUN_FILE, content)]);
  }

  /** Whether there is a checkpoint that the run can go on from. */
  hasCheckpoint(): Promise<boolean> {
    return hasTraining(this.path);
  }

  /** Whether there are weights outside of best/, with or without the state of a training. */
  async hasWeights(): Promise<boolean> {
    const names = ['model.safetensors', HISTORY_FOLDER];
    const found = await Promise.all(names.map(async (name) => existsSync(await locateFile(this.path, name))));
    return found.includes(true);
  }

  /** Whether the run has come to its end and told its result. */
  async isFinished(): Promise<boolean> {
    const run = await readJson(this.path, RUN_FILE, 'SGEMOE_CONFIG_INVALID');
    const result = run?.result as { interrupted?: boolean } | undefined;
    return result !== undefined && !result.interrupted;
  }
}

const RUN_FILE = 'run.json';
/** What a run and its checkpoints leave in a folder; any of the first three marks a run. */
const RUN_ENTRIES = [
  RUN_FILE,
  'model.safetensors',
  '.saved',
  'metrics.jsonl',
  'samples.jsonl',
  'curve.svg',
  'report.html',
  ...CHECKPOINT_FILES,
  'best',
  HISTORY_FOLDER,
];
const MARKS = RUN_ENTRIES.slice(0, 3);

/**
 * Refuses a folder that a run can't have to itself; makes nothing yet.
 * @throws UsageError for a file, a folder with an earlier run unless `overwrite`, a folder with other things in it.
 */
export async function checkRunFolder(path: string, overwrite: boolean): Promise<void> {
  const entries = await entriesOf(path);
  if (entries.length === 0) return;
  if (!MARKS.some((name) => entries.includes(name))) {
    throw new UsageError(
      `--out ${path} is not empty and holds no earlier run; choose a new folder, so that nothing in it is lost.`,
    );
  }
  if (!overwrite) {
    throw new UsageError(
      `--out ${path} holds an earlier run; --overwrite replaces it, another --out keeps both.`,
    );
  }
}

/**
 * Makes the folder and removes what an earlier run left in it; other files stay, and run.json too where the same run
 * starts once more: without it, it could not be resumed.
 */
export async function openRunFolder(path: string, { sameRun = false } = {}): Promise<RunFolder> {
  await makeFolder(path);
  for (const name of RUN_ENTRIES) {
    if (!(sameRun && name === RUN_FILE)) await rm(join(path, name), { recursive: true, force: true });
  }
  return new RunFolder(path);
}

async function entriesOf(path: string): Promise<string[]> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw new UsageError(`--out ${path} can't be used: ${error.message}`);
  });
  if (found === null) return [];
  if (!found.isDirectory()) throw new UsageError(`--out ${path} must be a folder, it is a file.`);
  return readdir(path);
}
