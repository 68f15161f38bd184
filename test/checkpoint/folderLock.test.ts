import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exportHuggingFace, prepareDataset } from '../../src';
import { FolderLock, LOCK_FILE, type LockOwner, lockFolder } from '../../src/checkpoint/folderLock';
import { ByteTokenizer } from '../../src/text/byteTokenizer';
import { sgemoe } from '../cli/run';
import { expectError } from '../helpers/expectError';
import { smallModel } from '../helpers/smallModel';

let top: string;
beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), 'sgemoe-lock-'));
});
afterAll(() => rmSync(top, { recursive: true, force: true }));

let made = 0;
function newFolder(): string {
  const folder = join(top, String(made++));
  mkdirSync(folder);
  return folder;
}

/** A lock as another process has left it. */
function leave(file: string, owner: Partial<LockOwner>): void {
  const whole = {
    host: hostname(),
    since: '2026-01-01T00:00:00.000Z',
    purpose: 'a test',
    processStart: null,
  };
  writeFileSync(file, JSON.stringify({ ...whole, id: 'x', ...owner }));
}

/** The id of a process that has ended. */
async function endedPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'close');
  return child.pid!;
}

const takenOver = /was locked by process \d+ .* which has ended without unlocking it: the lock is taken over/;

const LOCK_MODULE = resolve(__dirname, '../../dist/checkpoint/folderLock.js');
const ROUNDS = 12;

/** A process that asks for locks and keeps them. It waits for a random time before each of its calls of the file system. */
class Asker {
  static readonly #program = `
    const [module, seed] = process.argv.slice(1);
    const fs = require('node:fs');
    let state = Number(seed) + 1;
    const delayMs = () => (state = (state * 48271) % 2147483647) % 8;
    const pause = new Int32Array(new SharedArrayBuffer(4));
    for (const name of ['openSync', 'readFileSync', 'renameSync', 'linkSync', 'rmSync', 'unlinkSync']) {
      const call = fs[name];
      fs[name] = (...given) => (Atomics.wait(pause, 0, 0, delayMs()), call(...given));
    }
    for (const name of ['open', 'readFile', 'rename', 'link', 'rm', 'unlink']) {
      const call = fs.promises[name];
      fs.promises[name] = async (...given) => {
        await new Promise((resolve) => setTimeout(resolve, delayMs()));
        return call(...given);
      };
    }
    const { lockFolder } = require(module);
    const lines = require('node:readline').createInterface({ input: process.stdin });
    lines.on('line', (folder) => {
      lockFolder(folder, 'a test').then(() => 'locked', (error) => error.code).then((text) => console.log(text));
    });`;

  readonly #child;
  readonly #answers;

  constructor(seed: number) {
    this.#child = spawn(process.execPath, ['-e', Asker.#program, LOCK_MODULE, String(seed)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#answers = createInterface({ input: this.#child.stdout });
  }

  /** 'locked', or the code of the error. */
  async ask(folder: string): Promise<string> {
    const answer = once(this.#answers, 'line');
    this.#child.stdin.write(`${folder}\n`);
    return (await answer)[0];
  }

  end(): void {
    this.#child.kill();
  }
}

describe('a locked folder', () => {
  test('is refused until it is released, in a sentence that names the owner; nothing is left of the lock', async () => {
    const folder = newFolder();
    const lock = await lockFolder(folder, 'a test');
    expect(lock.note).toBeNull();
    const message = new RegExp(`in use by process ${process.pid} on .* \\(a test, since \\d{4}-`);
    await expectError('SGEMOE_FOLDER_LOCKED', message, () => lockFolder(folder, 'another'));
    await lock.release();
    expect(readdirSync(folder)).toEqual([]);
    await (await lockFolder(folder, 'another')).release();
  });

  test('is removed with the lock that it was made for, unless something was put in', async () => {
    const [empty, used] = [join(top, 'empty'), join(top, 'used')];
    await (await lockFolder(empty, 'a test')).release();
    const lock = await lockFolder(used, 'a test');
    writeFileSync(join(used, 'file'), '');
    await lock.release();
    expect(readdirSync(top)).not.toContain('empty');
    expect(readdirSync(used)).toEqual(['file']);
  });

  test('goes to exactly one of many that ask at once', async () => {
    const folder = newFolder();
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(folder, 'a test')));
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  test('is refused when a process on another host has it, and the sentence says how to unlock it', async () => {
    const folder = newFolder();
    const file = join(folder, LOCK_FILE);
    leave(file, { pid: await endedPid(), host: 'elsewhere' });
    const message = /on elsewhere .*can't be seen from this host\. If it has ended, remove .*\.sgemoe-lock/;
    await expectError('SGEMOE_FOLDER_LOCKED', message, () => lockFolder(folder, 'a test'));
  });
});

describe('a lock whose owner is gone', () => {
  test('is taken over, with a sentence', async () => {
    const folder = newFolder();
    leave(join(folder, LOCK_FILE), { pid: await endedPid() });
    const lock = await lockFolder(folder, 'a test');
    expect(lock.note).toMatch(takenOver);
    await lock.release();
    expect(readdirSync(folder)).toEqual([]);
  });

  test.skipIf(process.platform !== 'linux')(
    'is taken over too when another process has its id by now',
    async () => {
      const folder = newFolder();
      leave(join(folder, LOCK_FILE), { pid: process.pid, processStart: 'another boot 1' });
      expect((await lockFolder(folder, 'a test')).note).toMatch(takenOver);
    },
  );

  test('is taken over by one of many that ask at once', async () => {
    const folder = newFolder();
    leave(join(folder, LOCK_FILE), { pid: await endedPid() });
    const asked = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(folder, 'a test')));
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
  });

  test('is taken over by one of many processes that ask at once, however slow each of their steps is', async () => {
    const askers = Array.from({ length: 8 }, (_, seed) => new Asker(seed));
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const folder = newFolder();
        leave(join(folder, LOCK_FILE), { pid: await endedPid() });
        // In every second round, a process has been killed while it took the lock over.
        if (round % 2 === 1) leave(join(folder, `${LOCK_FILE}-takeover`), { pid: await endedPid() });
        const answers = await Promise.all(askers.map((asker) => asker.ask(folder)));
        expect(answers.filter((answer) => answer === 'locked')).toHaveLength(1);
        expect(answers.filter((answer) => answer === 'SGEMOE_FOLDER_LOCKED')).toHaveLength(askers.length - 1);
        expect(readdirSync(folder)).toEqual([LOCK_FILE]);
      }
    } finally {
      for (const asker of askers) asker.end();
    }
  });

  test('is taken over when its owner was killed while it wrote the lock', async () => {
    const folder = newFolder();
    writeFileSync(join(folder, LOCK_FILE), '{"pid":');
    expect((await lockFolder(folder, 'a test')).note).toMatch(/was locked by a process, which has ended/);
  });

  test('stays with the process that took it over, even when the old owner releases it late', async () => {
    const folder = newFolder();
    const late = await lockFolder(folder, 'a test');
    leave(join(folder, LOCK_FILE), { pid: await endedPid() });
    const lock = await lockFolder(folder, 'another');
    await late.release();
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
    await lock.release();
  });

  test('is taken over by the next process after a kill -9', async () => {
    const folder = newFolder();
    const script = `
      require(process.argv[1]).lockFolder(process.argv[2], 'a test').then(() => console.log('locked'));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['-e', script, LOCK_MODULE, folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const refused = new RegExp(`in use by process ${child.pid} `);
    await expectError('SGEMOE_FOLDER_LOCKED', refused, () => lockFolder(folder, 'a test'));
    child.kill('SIGKILL');
    await once(child, 'close');
    expect((await lockFolder(folder, 'a test')).note).toMatch(takenOver);
  });
});

describe('a command is refused where another process writes, and changes nothing there', () => {
  test('an export, unless the other process is gone', async () => {
    const folder = newFolder();
    const lock = await lockFolder(folder, 'a test');
    await expectError('SGEMOE_FOLDER_LOCKED', /in use/, () => exportHuggingFace(folder, smallModel()));
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
    await lock.release();
    leave(join(folder, LOCK_FILE), { pid: await endedPid() });
    const notes: string[] = [];
    await exportHuggingFace(folder, smallModel(), { onNote: (note) => notes.push(note) });
    expect(notes).toEqual([expect.stringMatching(takenOver)]);
    expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors']);
  });

  test('data prepare, whose folder appears whole', async () => {
    const text = join(top, 'text.txt');
    writeFileSync(text, 'some text '.repeat(20));
    const out = join(top, 'data');
    const lock = await FolderLock.acquire(`${out}${LOCK_FILE}`, 'data prepare');
    const prepare = () => prepareDataset(text, { tokenizer: new ByteTokenizer(), out });
    await expectError('SGEMOE_FOLDER_LOCKED', /data prepare/, prepare);
    await lock.release();
    await prepare();
    expect(readdirSync(top)).not.toContain(`data${LOCK_FILE}`);
  });

  test('tokenizer train, into a folder or a file', async () => {
    const text = join(top, 'words.txt');
    writeFileSync(text, 'some words and more words '.repeat(20));
    const folder = newFolder();
    const lock = await lockFolder(folder, 'a test');
    for (const out of [folder, join(folder, 'bpe.json')]) {
      const { code, stderr } = await sgemoe([
        'tokenizer',
        'train',
        '--data',
        text,
        '--vocab-size',
        '260',
        '--out',
        out,
      ]);
      expect(stderr).toMatch(/in use by process/);
      expect(code).toBe(1);
    }
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
    await lock.release();
  });

  test('training, at --resume by two processes', async () => {
    const text = join(top, 'book.txt');
    writeFileSync(text, 'some words and more words. '.repeat(100));
    const out = newFolder();
    const sizes = ['--hidden-dim', '8', '--layers', '1', '--heads', '1', '--kv-heads', '1', '--ffn-dim', '8'];
    const run = [
      '--seq-len',
      '8',
      '--batch-size',
      '1',
      '--steps',
      '4',
      '--eval-interval',
      '2',
      '--sample-tokens',
      '0',
    ];
    expect((await sgemoe(['train', '--data', text, '--out', out, ...sizes, ...run])).code).toBe(0);
    const metrics = readFileSync(join(out, 'metrics.jsonl'));
    const resume = ['train', '--out', out, '--resume', '--steps', '40'];
    const lock = await lockFolder(out, 'a test');
    const refused = await sgemoe(resume);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/in use by process/) });
    expect(readFileSync(join(out, 'metrics.jsonl')).equals(metrics)).toBe(true);
    await lock.release();
    const both = await Promise.all([sgemoe(resume), sgemoe(resume)]);
    expect(both.map(({ code }) => code).sort()).toEqual([0, 1]);
    const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });
});
