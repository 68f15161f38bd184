import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sgemoe, TINY, temporaryFolder, writeText } from './run';

/*
 * The rule of docs/errors.md: 2 where the command line is wrong, the paths that it names included; 1 for everything that is
 * wrong inside a file or missing from a folder.
 */

const POINTER =
  'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n';

let folder: string;
let text: string;
let run: string;
beforeAll(async () => {
  folder = temporaryFolder();
  text = writeText(folder);
  run = join(folder, 'run');
  const { code, stderr } = await sgemoe(['train', '--data', text, '--out', run, ...TINY, ...STEPS]);
  expect(code, stderr).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const STEPS = ['--steps', '2', '--eval-batches', '1', '--sample-tokens', '0', '--save-interval', '1'];

/** A way to damage a file; null if the system can't do it. */
const SPOILED: Record<string, ((path: string) => void) | null> = {
  'a git-lfs pointer': (path) => writeFileSync(path, POINTER),
  'an empty file': (path) => writeFileSync(path, ''),
  'half of the file': (path) => writeFileSync(path, readFileSync(path).subarray(0, 40)),
  'a folder': (path) => {
    rmSync(path);
    mkdirSync(path);
  },
  'a named pipe':
    process.platform === 'win32'
      ? null
      : (path) => {
          rmSync(path);
          execFileSync('mkfifo', [path]);
        },
};

let copies = 0;
function spoiledRun(file: string, spoil: (path: string) => void): string {
  const dir = join(folder, `spoiled ${copies++}`);
  cpSync(run, dir, { recursive: true });
  spoil(join(dir, file));
  return dir;
}

describe('exit code 1', () => {
  const files = ['config.json', 'model.safetensors', 'tokenizer.json'];
  const spoilings = files.flatMap((file) =>
    Object.entries(SPOILED).flatMap(([what, spoil]) =>
      spoil === null ? [] : [[what, file, spoil] as const],
    ),
  );

  it.each(spoilings)('is that of every command for %s in place of %s', async (_, file, spoil) => {
    const dir = spoiledRun(file, spoil);
    const commands = [
      ['generate', dir, '--prompt', 'one', '--max-tokens', '1'],
      ['eval', dir, '--data', text],
      ['serve', dir, '--port', '0'],
      ['export', dir, '--out', join(folder, 'never')],
      ['train', '--init-from', dir, '--data', text, '--out', join(folder, 'never'), ...STEPS],
      ['train', '--resume', '--out', dir],
    ];
    for (const argv of commands) {
      const { code, stderr } = await sgemoe(argv);
      expect(stderr, argv.join(' ')).toContain(file);
      expect(code, argv.join(' ')).toBe(1);
    }
  });

  it.each(['model.safetensors', 'tokenizer.json'])('is that of a checkpoint without %s', async (file) => {
    const dir = spoiledRun(file, rmSync);
    const argv = ['generate', dir, '--prompt', 'one', '--max-tokens', '1'];
    const [part] = file.split('.');
    expect(await sgemoe(argv)).toMatchObject({ code: 1, stderr: expect.stringContaining(part) });
  });

  it.each(['run.json', 'state.json', 'optimizer.safetensors'])(
    'is that of --resume with a damaged %s',
    async (file) => {
      const dir = spoiledRun(file, (path) => writeFileSync(path, '{'));
      const { code, stderr } = await sgemoe(['train', '--resume', '--out', dir]);
      expect(stderr).toContain(file);
      expect(code).toBe(1);
    },
  );

  it('is that of --resume with an impossible value in run.json', async () => {
    const dir = spoiledRun('run.json', (path) => {
      const content = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...content, options: { ...content.options, steps: 'many' } }));
    });
    const { code, stderr } = await sgemoe(['train', '--resume', '--out', dir]);
    expect(stderr).toMatch(/run\.json: steps can't be "many"/);
    expect(code).toBe(1);
  });

  it.each(['meta.json', 'train.bin', 'tokenizer.json'])(
    'is that of a data set with a damaged %s',
    async (file) => {
      const data = join(folder, `data ${file}`);
      await sgemoe(['data', 'prepare', '--data', text, '--tokenizer', 'byte', '--out', data]);
      const path = join(data, file);
      const whole = readFileSync(path, 'utf8');
      writeFileSync(path, file === 'meta.json' ? whole.replace('"train"', '"trian"') : '{');
      const { code, stderr } = await sgemoe([
        'train',
        '--data',
        data,
        '--out',
        join(folder, 'never'),
        ...TINY,
      ]);
      expect(stderr).toContain(file);
      expect(code).toBe(1);
    },
  );

  it('is that of text in another encoding, and of a tokenizer that no tokenizer is', async () => {
    const latin = join(folder, 'latin.txt');
    writeFileSync(latin, Buffer.from('na\xefve caf\xe9 '.repeat(100), 'latin1'));
    const out = join(folder, 'never');
    const wrong = join(folder, 'wrong.json');
    writeFileSync(wrong, '{"model":{"type":"Magic"}}');
    for (const more of [
      ['--data', latin],
      ['--data', text, '--tokenizer', wrong],
    ]) {
      expect((await sgemoe(['train', '--out', out, ...TINY, ...more])).code, more.join(' ')).toBe(1);
    }
  });
});

describe('exit code 2', () => {
  const pipe = () => {
    const path = join(folder, `pipe ${copies++}`);
    if (process.platform !== 'win32') execFileSync('mkfifo', [path]);
    return path;
  };
  const out = () => join(folder, 'never');
  const train = (...more: string[]) => ['train', '--out', out(), ...TINY, ...more];
  const cases: [string, () => string[]][] = [
    ['a checkpoint that is not there', () => ['generate', join(folder, 'none')]],
    ['a checkpoint that is a file', () => ['generate', text]],
    ['a checkpoint that is a named pipe', () => ['serve', pipe()]],
    ['a folder without a checkpoint', () => ['eval', folder, '--data', text]],
    ['a GGUF file that is not there', () => ['inspect', join(folder, 'none.gguf')]],
    ['an --init-from that is not there', () => train('--data', text, '--init-from', join(folder, 'none'))],
    ['data that are not there', () => train('--data', join(folder, 'none'))],
    ['data that are a named pipe', () => train('--data', pipe())],
    ['data too short for --seq-len', () => train('--data', text, '--seq-len', '100000')],
    ['a tokenizer that is not there', () => train('--data', text, '--tokenizer', join(folder, 'none'))],
    ['a tokenizer that is a named pipe', () => train('--data', text, '--tokenizer', pipe())],
    ['a --config that is not there', () => train('--data', text, '--config', join(folder, 'none'))],
    ['a run to report that is not there', () => ['report', join(folder, 'none')]],
    ['an --out that is taken', () => ['train', '--data', text, '--out', run]],
  ];

  it.each(cases)('is that of %s', async (_, argv) => {
    const { code, stdout, stderr } = await sgemoe(argv());
    expect({ code, stdout }, stderr).toEqual({ code: 2, stdout: '' });
  });
});
