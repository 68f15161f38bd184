import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ROOT, runBench, temporaryFolder } from './command';

const number = expect.any(Number);
const text = expect.any(String);
const PEERS = join(ROOT, 'bench', 'peers');
const IDS = [
  'forward_tiny',
  'train_tiny',
  'forward_small',
  'train_small',
  'cold_tiny',
  'kernel_softmax',
  'kernel_rmsnorm',
  'kernel_matmul',
];

const LARGE_IDS = ['forward_512', 'train_512', 'forward_768', 'train_768', 'mixtral_768'];

/**
 * A peer that speaks the protocol and computes nothing. It says that it computed STUB_VALUE, fails in one scenario, dies in another, and
 * never answers in a third.
 */
const STUB = `
const threads = Number(process.env.OMP_NUM_THREADS);
const value = JSON.parse(process.env.STUB_VALUE ?? 'null') ?? undefined;
process.stdout.write(JSON.stringify({ name: 'Stub', version: '1', threads }) + '\\n');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { op, scenario, trials } = JSON.parse(line);
  if (scenario?.id === 'kernel_softmax') console.log(JSON.stringify({ error: 'no | softmax here' }));
  else if (scenario?.id === 'kernel_matmul') process.exit(3);
  else if (scenario?.id === 'cold_tiny') return;
  else console.log(JSON.stringify(op === 'block' ? { timings_ns: new Array(trials).fill(1e9) } : { value }));
});
`;

function pythonHasNumPy(): boolean {
  try {
    execFileSync('python3', ['-c', 'import numpy'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('bench/peers.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);
  const file = (name: string) => join(folder.path, name);

  /** A command that runs the stub whatever it is asked to run. */
  const stub = file('stub');
  writeFileSync(file('stub.js'), STUB);
  writeFileSync(stub, `#!/bin/sh\nexec "${process.execPath}" "${file('stub.js')}"\n`, { mode: 0o755 });

  const onUnix = test.skipIf(process.platform === 'win32');

  onUnix('times ours and a peer in turn, with as many threads, and gives ratios with quartiles', async () => {
    const out = file('peers.json');
    const args = ['--filter', 'forward_tiny,kernel', '--trials', '4', '--rounds', '2', '--threads', '2'];
    const { code, stdout, stderr } = await runBench('peers.js', [...args, '--python', stub, '--out', out]);
    expect(code, stderr).toBe(0);
    const { metadata, scenarios } = JSON.parse(readFileSync(out, 'utf8'));
    expect(metadata).toMatchObject({ n_trials: 4, n_rounds: 2, cpu_model: text, load_average: number });
    const [forward, softmax, rmsNorm, matmul] = scenarios;
    expect(scenarios.map(({ id }: { id: string }) => id)).toEqual([IDS[0], ...IDS.slice(-3)]);
    const config = expect.objectContaining({ hidden_size: 64 });
    expect(forward).toMatchObject({
      id: 'forward_tiny',
      params: { work: 'forward', config, batch: 2, seq: 32, precision: 'float32' },
      bars: { torch: { float32: 2 } },
      rounds: 2,
      trials_per_round: 2,
      inner_iterations: 1,
    });
    const { members } = forward;
    expect(members.ours).toMatchObject({ name: 'sgemoe', version: text, backend: text, threads: number });
    const { threads } = members.ours;
    expect(members.numpy).toEqual({ peer: 'numpy', name: 'Stub', version: '1', threads });
    expect(Object.keys(members)).toEqual(['ours', 'numpy', 'torch-eager', 'torch-compile']);
    const { ours, numpy } = forward.figures;
    const block = [number, number];
    expect(ours).toEqual({ median_ns: number, q1_ns: number, q3_ns: number, timings_ns: [block, block] });
    expect(numpy.median_ns).toBe(1e9);
    const roundMedians = ours.timings_ns.map(([a, b]: number[]) => (a + b) / 2);
    expect(numpy.ratio.per_round).toEqual(roundMedians.map((time: number) => 1e9 / time));
    const { q1, median, q3 } = numpy.ratio;
    expect(q1).toBeLessThanOrEqual(median);
    expect(median).toBeLessThanOrEqual(q3);
    expect(rmsNorm.figures['torch-compile'].ratio.median).toBeGreaterThan(1);

    // A peer that fails in a scenario is left out of it, with a sentence; the rest goes on.
    expect(Object.keys(softmax.figures)).toEqual(['ours']);
    expect(Object.keys(matmul.figures)).toEqual(['ours']);
    expect(stderr).toContain('peers: numpy: kernel_softmax failed, no | softmax here');
    expect(stderr).toContain('peers: numpy: kernel_matmul failed, its process ended: exit code 3');
    const rows = stdout.split('\n');
    expect(rows[0]).toBe(
      '| scenario | precision | threads | ours | peer | its time | fastest / ours | bar |',
    );
    expect(rows[2]).toMatch(
      /^\| forward_tiny \| float32 \| \d \| \S+ [mu]s \| Stub 1 \| 1\.00 s \| [\d.]+x \([\d.]+x to [\d.]+x\) \| - \|$/,
    );
    expect(stdout).toContain(
      '| eager failed: no \\| softmax here, compile failed: no \\| softmax here | - | - |',
    );
    // PyTorch begins with our weights, so it must say what it computed.
    expect(rows[3]).toMatch(
      /eager failed: it computes nothing where ours computes [\d.]+ \(tolerances 0\.0001 and 0\.0005\), compile failed: /,
    );
  });

  onUnix(
    'takes each precision and number of threads, and holds the fastest form against the bar',
    async () => {
      const args = ['--filter', 'train_tiny', '--trials', '2', '--rounds', '1', '--python', stub];
      const refused = await runBench('peers.js', args);
      const [, loss, norm] = /ours computes ([\d.]+) and ([\d.]+)/.exec(refused.stderr) ?? [];
      process.env.STUB_VALUE = JSON.stringify([Number(loss) * 1.00009, Number(norm)]);
      try {
        const more = ['--precisions', 'float32,bfloat16', '--threads', '1,2'];
        const { code, stdout, stderr } = await runBench('peers.js', [...args, ...more]);
        expect(code, stderr).toBe(0);
        const cells = stdout.split('\n').map((row) => row.split(' | ').slice(1));
        const rows = cells.slice(2, -1).map(([precision, threads, , peer]) => [precision, threads, peer]);
        const of = (threads: string) => [
          ['float32', threads, 'Stub 1'],
          ['float32', threads, 'Stub 1'],
          ['bfloat16', threads, 'Stub 1'],
          ['bfloat16', threads, expect.stringMatching(/^sgemoe in float32 /)],
        ];
        expect(rows.slice(0, 4)).toEqual(of('1'));
        expect(rows.slice(4)).toEqual(of(rows[4][1]));
        expect(cells[3][4]).toBe('eager 1.00 s, compile 1.00 s');
        expect(cells[3][6]).toBe('6.00x: met |');
        expect(cells[4][6]).toBe('- |');
      } finally {
        delete process.env.STUB_VALUE;
      }
    },
  );

  onUnix('leaves a peer out of a scenario in which it takes longer than the limit', async () => {
    const args = ['--filter', 'cold,kernel_r', '--trials', '1', '--forms', 'eager', '--limit', '2'];
    const { code, stdout, stderr } = await runBench('peers.js', [...args, '--python', stub]);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('| eager failed: it took longer than 2 s | - | - |');
    // A new process takes part in the next.
    expect(stdout).toMatch(/^\| kernel_rmsnorm .* \| eager 1\.00 s \| /m);
  });

  test('without any Python it says so and times ours', async () => {
    mkdirSync(file('empty'));
    const { PATH } = process.env;
    process.env.PATH = file('empty');
    try {
      const { code, stdout, stderr } = await runBench('peers.js', ['--trials', '1', '--filter', 'kernel_s']);
      expect(code, stderr).toBe(0);
      expect(stderr).toContain('peers: NumPy is left out, its process ended: spawn python3 ENOENT');
      expect(stderr).toContain(
        'peers: PyTorch, compile, is left out, its process ended: spawn python3 ENOENT',
      );
      expect(stdout).toMatch(/\| kernel_softmax \| float32 \| \d \| \S+ \wu?s \| - \| - \| - \| - \|\n$/);
    } finally {
      process.env.PATH = PATH;
    }
  });

  test.each([
    [['--trials', '0'], /--trials <n>' argument '0' is invalid/],
    [['--rounds', 'x'], /--rounds <n>' argument 'x' is invalid/],
    [
      ['--filter', 'nothing'],
      new RegExp(`--filter nothing matches no scenario\\. They are: ${IDS.join(', ')}\\.`),
    ],
    [['--filter', 'nothing', '--all'], new RegExp(`They are: ${[...IDS, ...LARGE_IDS].join(', ')}\\.`)],
    [['--forms', 'eager,fast'], /'eager,fast' is invalid\. It must be some of eager, compile, with commas/],
    [['--precisions', 'float16'], /'float16' is invalid\. It must be some of float32, bfloat16, with/],
    [['--threads', '1,0'], /--threads <list>' argument '1,0' is invalid/],
    [['--limit', '0'], /--limit <s>' argument '0' is invalid/],
    [['--out', 'no/such/folder/r.json'], /--out no\/such\/folder\/r\.json: there is no folder /],
    [['--frobnicate'], /unknown option '--frobnicate'/],
  ])('%j exits 2 with a sentence', async (args, sentence) => {
    const { code, stdout, stderr } = await runBench('peers.js', args);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });
});

describe('bench/finetune.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);
  const short = ['--filter', '64', '--trials', '1', '--rounds', '1', '--threads', '1'];

  test('times a step of adapters on both bases, and tells the share of the bytes', async () => {
    const out = join(folder.path, 'finetune.json');
    const { code, stdout, stderr } = await runBench('finetune.js', [...short, '--out', out]);
    expect(code, stderr).toBe(0);
    const { scenarios, bytes } = JSON.parse(readFileSync(out, 'utf8'));
    expect(Object.keys(scenarios[0].members)).toEqual(['ours', 'q4_0']);
    expect(scenarios[0].figures.q4_0.ratio.median).toBeGreaterThan(0);
    expect(bytes[0].stored).toBeLessThan(0.2 * bytes[0].float);
    expect(stdout).toContain(`adapters_64: weights of ${bytes[0].stored} bytes in q4_0`);
  });

  test.skipIf(process.platform === 'win32')(
    'refuses to compare with a peer that computes another loss',
    async () => {
      const bin = join(folder.path, 'venv', 'bin');
      mkdirSync(bin, { recursive: true });
      const answers = STUB.replace(': { value }));', ': { value: 1 }));');
      writeFileSync(join(bin, 'stub.js'), answers);
      writeFileSync(
        join(bin, 'python'),
        `#!/bin/sh\nexec "${process.execPath}" "${join(bin, 'stub.js')}"\n`,
        {
          mode: 0o755,
        },
      );
      const { code, stderr } = await runBench('finetune.js', [...short, '--venv', join(folder.path, 'venv')]);
      expect(stderr).toMatch(/adapters_64: the losses differ after 3 steps, [\d.]+ and peft's 1/);
      expect(code).toBe(1);
    },
  );
});

describe.skipIf(!pythonHasNumPy())('the NumPy twin', () => {
  const fixtures = ['micro', 'gqa'].map((name) => join(ROOT, 'test', 'fixtures', name)).filter(existsSync);

  test.each(fixtures)('computes the logits, gradients and train steps of %s', (fixture) => {
    const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '1' };
    const printed = execFileSync('python3', [join(PEERS, 'numpy_moe.py'), fixture], {
      env,
      encoding: 'utf8',
    });
    const deviations = JSON.parse(printed);
    expect(Object.keys(deviations)).toEqual(['logits', 'gradients', 'lr', 'loss', 'grad_norm']);
  });

  const folder = temporaryFolder();
  afterAll(folder.remove);

  test('is a peer in every kind of scenario', async () => {
    const out = join(folder.path, 'peers.json');
    const { code, stderr } = await runBench('peers.js', [
      '--trials',
      '1',
      '--threads',
      '1',
      '--filter',
      'tiny,kernel',
      '--out',
      out,
    ]);
    expect(code, stderr).toBe(0);
    const { scenarios } = JSON.parse(readFileSync(out, 'utf8'));
    expect(scenarios[0].members.numpy).toMatchObject({ name: 'NumPy', threads: 1 });
    expect(scenarios.map(({ id }: { id: string }) => id)).toEqual(IDS.filter((id) => !id.endsWith('small')));
    for (const { figures } of scenarios) expect(figures.numpy.ratio.median).toBeGreaterThan(0);
  });
});

describe('bench/roofline.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);
  const out = join(folder.path, 'roofline.svg');
  const write = (name: string, content: unknown) => {
    writeFileSync(join(folder.path, name), JSON.stringify(content));
    return join(folder.path, name);
  };
  const kernel = (name: string, bound: string, share: number) => ({
    id: `kernels_${name}`,
    axis: 'kernels',
    params: { kernel: name, bound },
    derived: { rate_per_sec: share * 1e11, peak_per_sec: 1e11 },
  });

  test('draws a bar for each kernel, as long as its share of the peak, the fastest first', async () => {
    const scenarios = [
      kernel('slow', 'bytes', 0.25),
      kernel('fast', 'bytes', 0.5),
      kernel('sgemm', 'flops', 1.5),
    ];
    const { code, stderr } = await runBench('roofline.js', [write('k.json', { scenarios }), '--out', out]);
    expect(code, stderr).toBe(0);
    const svg = readFileSync(out, 'utf8');
    expect(svg).toMatch(/^<svg xmlns=/);
    const bars = [...svg.matchAll(/>(\w+)<\/text><rect [^>]*width="([\d.]+)"/g)].map(([, name, width]) => [
      name,
      Number(width),
    ]);
    expect(bars.map(([name]) => name)).toEqual(['sgemm', 'fast', 'slow']);
    expect(Number(bars[1][1]) / Number(bars[2][1])).toBe(2);
    // Faster than the measured peak: then it is the peak.
    expect(Number(bars[0][1])).toBe(2 * Number(bars[1][1]));
    expect(svg).toContain('peak 150 GFLOP/s');
    expect(svg).toContain('150 · 100 %');
    expect(svg).toContain('peak 100 GB/s');
    expect(svg).toContain('50 · 50 %');
  });

  test.each([
    [[write('other.json', { scenarios: [] }), '--out', out], /has no scenario of the kernels axis/],
    [[write('list.json', []), '--out', out], /is not a result of bench\/run\.js/],
    [['missing.json', '--out', out], /missing\.json can not be read as JSON: ENOENT/],
    [['missing.json'], /required option '--out <file>' not specified/],
  ])('%j exits 2 with a sentence', async (args, sentence) => {
    const { code, stderr } = await runBench('roofline.js', args);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(2);
  });
});
