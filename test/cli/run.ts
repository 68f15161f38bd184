/** Command lines run in this process against a stand-in for the terminal. */
import { EventEmitter } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { ByteTokenizer, MoETransformer } from '../../src';
import { main } from '../../src/cli/program';
import type { InStream } from '../../src/cli/terminal/io';
import { SMALL } from '../helpers/smallModel';

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  stdin?: readonly (string | Uint8Array)[] | InStream;
  env?: Record<string, string>;
  isTTY?: boolean;
  /** The command line of dist/, for commands that start workers, which load compiled files. */
  program?: typeof main;
  signals?: EventEmitter;
  /** Sees each piece that goes to stdout. */
  onStdout?: (text: string) => void;
}

export async function sgemoe(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const {
    stdin = [],
    env = {},
    isTTY = false,
    signals = new EventEmitter(),
    program = main,
    onStdout,
  } = options;
  let stdout = '';
  let stderr = '';
  const code = await program(argv, {
    stdin: Array.isArray(stdin)
      ? (async function* () {
          yield* stdin;
        })()
      : (stdin as InStream),
    stdout: {
      write(text) {
        stdout += text;
        onStdout?.(text);
      },
      isTTY,
      columns: 100,
    },
    stderr: {
      write(text) {
        stderr += text;
      },
    },
    env,
    signals,
  });
  return { code, stdout, stderr };
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'sgemoe cli-'));
}

/** Writes a file with this many lines of easy text. */
export function writeText(folder: string, lines = 400): string {
  const file = join(folder, 'text.txt');
  const words = ['one', 'two', 'three', 'four', 'five'];
  const text = Array.from({ length: lines }, (_, i) => `${words[i % 5]} and ${words[(i + 1) % 5]}, naïve`);
  writeFileSync(file, text.join('\n'));
  return file;
}

/** The smallest model that makes sense, for tests of everything around it. */
export const TINY =
  '--hidden-dim 16 --layers 2 --heads 2 --kv-heads 1 --ffn-dim 16 --seq-len 16 --batch-size 4'.split(' ');

export function readMetrics(folder: string): Record<string, unknown>[] {
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').split('\n');
  if (lines.pop() !== '') throw new Error('metrics.jsonl must end with a whole line');
  return lines.map((line) => JSON.parse(line));
}

/** Saves a small untrained model of bytes in a folder; returns the checkpoint's path. */
export async function saveByteModel(folder: string): Promise<string> {
  const path = join(folder, 'model');
  const model = MoETransformer.create({ ...SMALL, vocabSize: 256, maxSeqLen: 128 }, { seed: 1 });
  await model.save(path, new ByteTokenizer().files());
  return path;
}

/** Such a model in a folder of its own, from before the tests of the file that calls this until after them. */
export function byteModel(): { readonly folder: string; readonly model: string } {
  const saved = { folder: '', model: '' };
  beforeAll(async () => {
    saved.folder = temporaryFolder();
    saved.model = await saveByteModel(saved.folder);
  });
  afterAll(() => rmSync(saved.folder, { recursive: true, force: true }));
  return saved;
}
