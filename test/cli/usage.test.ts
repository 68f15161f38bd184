import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prune } from '../../src/cli/commands/prune';
import { sgemoe, TINY, temporaryFolder, writeText } from './run';

let folder: string;
let text: string;
beforeAll(() => {
  folder = temporaryFolder();
  text = writeText(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('help and version', () => {
  it('goes to stdout with exit code 0', async () => {
    for (const argv of [['--help'], ['help', 'train'], ['generate', '-h'], ['--version'], ['-V']]) {
      const { code, stdout, stderr } = await sgemoe(argv);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).not.toBe('');
    }
    expect((await sgemoe(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each(['train', 'generate', 'info', 'inspect', 'serve'])(
    'of %s names a default or range for each option, and examples',
    async (name) => {
      const { stdout } = await sgemoe([name, '--help']);
      expect(stdout).toContain(`$ sgemoe ${name}`);
      const options = stdout.split(/\n(?= {2}-)/).filter((part) => /^ {2}--/.test(part));
      expect(options.length).toBeGreaterThan(0);
      for (const option of options) {
        if (/--data|--out/.test(option)) continue;
        expect(option.replaceAll(/\s+/g, ' ')).toMatch(/(\(|, )default: /);
      }
    },
  );
});

describe('a wrong command line', () => {
  const train = (...more: string[]) => ['train', '--data', text, '--out', join(folder, 'new'), ...more];
  const cases: [string, () => string[], RegExp][] = [
    ['without a command', () => [], /Usage: sgemoe/],
    ['an unknown command', () => ['trian'], /unknown command 'trian'[\s\S]*Did you mean train\?/],
    ['an unknown option', () => train('--stepz', '5'), /unknown option '--stepz'[\s\S]*--steps/],
    ['a missing option', () => ['train', '--out', 'x'], /--data is missing: it says what to train on/],
    ['a missing argument', () => ['generate'], /missing required argument 'model'/],
    ['a surplus argument', () => ['info', 'x'], /too many arguments/],
    ['text for an integer', () => train('--steps', 'many'), /--steps[\s\S]*'many'[\s\S]*integer >= 1/],
    ['a fraction for an integer', () => train('--batch-size', '1.5'), /--batch-size[\s\S]*integer >= 1/],
    [
      'experts divided over one rank',
      () => train('--expert-parallel', '2'),
      /--expert-parallel must be a divisor of the number of ranks \(1\), got 2/,
    ],
    ['a negative rate', () => train('--lr', '-1'), /--lr[\s\S]*number >= 0/],
    ['a fraction of 1', () => train('--validation-fraction', '1'), /number >= 0 and < 1/],
    ['an unknown preset', () => train('--preset', 'huge'), /Allowed choices are tiny, small/],
    ['an unknown norm', () => train('--qk-norm', 'tail'), /Allowed choices are none, head, full/],
    [
      'embeddings times 0',
      () => train('--embedding-multiplier', '0'),
      /embedding-multiplier[\s\S]*number > 0/,
    ],
    ['too many threads', () => train('--threads', '999'), /integer >= 1 and <= 256/],
    ['more layers than memory', () => train('--layers', '99999999'), /needs [\d,.]+ GB to train/],
    [
      'heads that do not divide',
      () => train('--heads', '4', '--kv-heads', '3'),
      /--kv-heads \(3\) must divide --heads \(4\)/,
    ],
    [
      'an odd width of heads',
      () => train('--hidden-dim', '130', '--heads', '4'),
      /--hidden-dim \(130\).*--heads \(4\)/,
    ],
    [
      'too many experts a token',
      () => train('--experts', '2', '--top-k-experts', '3'),
      /--top-k-experts \(3\) must be at most --experts \(2\)/,
    ],
    [
      'more parts than sequences',
      () => train('--batch-size', '2', '--grad-accumulation', '3'),
      /--grad-accumulation \(3\).*--batch-size \(2\)/,
    ],
    [
      'data that is missing',
      () => ['train', '--data', '/no/such', '--out', join(folder, 'new')],
      /\/no\/such does not exist/,
    ],
    ['data too short for a window', () => train('--seq-len', '100000'), /100001 are needed/],
    [
      'a checkpoint that is missing',
      () => ['generate', '/no/such'],
      /\/no\/such: there is no such checkpoint folder/,
    ],
    ['a bias of nothing', () => ['generate', folder, '--logit-bias', '13'], /token id, '=' and a number/],
    ['a min-p above 1', () => ['generate', folder, '--min-p', '2'], /number >= 0 and <= 1/],
    ['a top-p below 0', () => ['generate', folder, '--top-p', '-1'], /number >= 0 and <= 1/],
  ];

  it.each(cases)('%s gets a sentence on stderr and exit code 2', async (_, argv, message) => {
    const { code, stdout, stderr } = await sgemoe(argv());
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toContain('    at ');
  });

  it('shows the stack with SGEMOE_DEBUG=1', async () => {
    const { stderr } = await sgemoe(['generate', '/no/such'], { env: { SGEMOE_DEBUG: '1' } });
    expect(stderr).toContain('    at ');
  });
});

describe('the run folder', () => {
  it('is refused when it holds other things, even with --overwrite, and they stay', async () => {
    const out = join(folder, 'other');
    mkdirSync(out);
    writeFileSync(join(out, 'thesis.md'), 'years of work');
    for (const more of [[], ['--overwrite']]) {
      const { code, stderr } = await sgemoe(['train', '--data', text, '--out', out, ...more]);
      expect(code).toBe(2);
      expect(stderr).toMatch(/is not empty and holds no earlier run/);
    }
  });

  it('is refused when it is a file', async () => {
    const { code, stderr } = await sgemoe(['train', '--data', text, '--out', text]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/must be a folder/);
  });

  it('with an earlier run is replaced with --overwrite only', async () => {
    const out = join(folder, 'again');
    const argv = ['train', '--data', text, '--out', out, ...TINY, '--steps', '2', '--sample-tokens', '0'];
    expect((await sgemoe(argv)).code).toBe(0);
    const refused = await sgemoe(argv);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/holds an earlier run; --overwrite replaces it/);
    expect((await sgemoe([...argv, '--overwrite'])).code).toBe(0);
  });
});

describe('info', () => {
  it('tells what computes, for people and as JSON', async () => {
    const { code, stdout } = await sgemoe(['info', '--json']);
    const info = JSON.parse(stdout);
    expect(code).toBe(0);
    expect(info).toMatchObject({ node: process.version, sgemoe: expect.stringMatching(/^\d/) });
    const lines = (await sgemoe(['info'])).stdout;
    for (const value of [info.backend, info.platform, info.instructionSet, String(info.threads)]) {
      expect(lines).toContain(value);
    }
  });
});

describe('build', () => {
  it('tells why it failed, with exit code 1', async () => {
    const { code, stdout, stderr } = await sgemoe(['build'], { env: { SGEMOE_BUILD: 'make' } });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /the native addon was not built\. .*SGEMOE_BUILD must be cmake or gyp, got 'make'/,
    );
  });
});

describe('prune', () => {
  function installed(name: string, platforms: string[]): string {
    const root = join(folder, name, 'node_modules', 'sgemoe');
    for (const platform of platforms) {
      mkdirSync(join(root, 'prebuilds', platform), { recursive: true });
      writeFileSync(join(root, 'prebuilds', platform, 'sgemoe.node'), '12345');
    }
    return root;
  }

  it('leaves the addon of one platform', () => {
    const root = installed('three', ['linux-x64', 'linux-arm64', 'win32-x64']);
    expect(prune(root, 'linux-arm64')).toEqual({ removed: ['linux-x64', 'win32-x64'], bytes: 10 });
    expect(readdirSync(join(root, 'prebuilds'))).toEqual(['linux-arm64']);
    expect(prune(root, 'linux-arm64')).toEqual({ removed: [], bytes: 0 });
  });

  it('removes nothing when the addon to keep is missing', () => {
    const root = installed('other', ['linux-x64']);
    expect(() => prune(root, 'linux-x64-musl')).toThrow(
      'the package has no addon for linux-x64-musl, so none is removed',
    );
    expect(readdirSync(join(root, 'prebuilds'))).toEqual(['linux-x64']);
  });

  it('refuses in a clone', async () => {
    const { code, stderr } = await sgemoe(['prune']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^sgemoe: prune works on the package in node_modules, and this is a clone/);
  });
});
