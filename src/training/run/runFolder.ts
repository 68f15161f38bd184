import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_WEIGHTS, CHECKPOINT_FILES } from '../../checkpoint/checkpoint';
import { LOCK_FILE } from '../../checkpoint/folderLock';
import { jsonFile, readJson } from '../../checkpoint/jsonFile';
import { locateFile, replaceFiles } from '../../checkpoint/replaceFiles';
import { HISTORY_FOLDER } from '../../checkpoint/retention';
import { hasTraining } from '../../checkpoint/trainingFiles';

/** The folder that a training run writes. */
export class RunFolder {
  constructor(readonly path: string) {}

  /** Path of the file with the run's settings and, at its end, its result. */
  get runFile(): string {
    return join(this.path, RUN_FILE);
  }

  get metricsFile(): string {
    return join(this.path, 'metrics.jsonl');
  }

  /** Path of the file with the run's samples, one JSON object { step, prompt, text } a line. */
  get samplesFile(): string {
    return join(this.path, 'samples.jsonl');
  }

  get chartFile(): string {
    return join(this.path, 'curve.svg');
  }

  /** Path of the checkpoint with the lowest validation loss; the last checkpoint is in the folder itself. */
  get best(): string {
    return join(this.path, 'best');
  }

  /** Writes run.json whole or not at all, since a run is resumed by it. */
  async writeRun(content: object): Promise<void> {
    await replaceFiles(this.path, [jsonFile(RUN_FILE, content)]);
  }

  /** Whether there is a checkpoint to resume from. */
  hasCheckpoint(): Promise<boolean> {
    return hasTraining(this.path);
  }

  /** Whether there are weights outside of best/, with or without the state of a training. */
  async hasWeights(): Promise<boolean> {
    const names = ['model.safetensors', ADAPTER_WEIGHTS, HISTORY_FOLDER];
    const found = await Promise.all(names.map(async (name) => existsSync(await locateFile(this.path, name))));
    return found.includes(true);
  }

  /** Whether the run has ended and written its result. */
  async isFinished(): Promise<boolean> {
    const run = await readJson(this.path, RUN_FILE, 'SGEMOE_CONFIG_INVALID');
    const result = run?.result as { interrupted?: boolean | undefined } | undefined;
    return result !== undefined && !result.interrupted;
  }

  /** Looks what is in the folder. @throws the system's Error when it can't be read. */
  async use(): Promise<FolderUse> {
    const entries = await readdir(this.path).catch((error: NodeJS.ErrnoException): string[] | null => {
      if (error.code === 'ENOENT') return [];
      if (error.code === 'ENOTDIR') return null;
      throw error;
    });
    if (entries === null) return 'file';
    if (entries.every((name) => name.startsWith(LOCK_FILE))) return 'free';
    return MARKS.some((name) => entries.includes(name)) ? 'run' : 'other';
  }

  /**
   * Removes the files of an earlier run; other files stay. run.json goes first, so that nobody resumes a half-cleared
   * folder. If the run has saved nothing, run.json is all of it and stays until the next run replaces it.
   */
  async clear(): Promise<void> {
    const first = (await this.hasWeights()) ? [RUN_FILE] : [];
    for (const name of [...first, ...RUN_ENTRIES]) {
      await rm(join(this.path, name), { recursive: true, force: true });
    }
  }
}

/** 'free' is an empty or missing folder, 'run' holds an earlier run, 'other' holds other things, 'file' is no folder. */
export type FolderUse = 'free' | 'run' | 'other' | 'file';

const RUN_FILE = 'run.json';
/** Log-probabilities of preference pairs under the model that the run started from. */
export const REFERENCE_FILE = 'reference.json';
/** Any of these files marks a run. */
const MARKS = [RUN_FILE, 'model.safetensors', ADAPTER_WEIGHTS, '.saved'];
/** The files of a run and its checkpoints beside run.json, the marks last. */
const RUN_ENTRIES = [
  'metrics.jsonl',
  'samples.jsonl',
  'curve.svg',
  'report.html',
  REFERENCE_FILE,
  'best',
  HISTORY_FOLDER,
  ...(CHECKPOINT_FILES as readonly string[]).filter((name) => !MARKS.includes(name)),
  ...MARKS.slice(1),
];
