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

/** A peer that speaks the protocol and computes nothing; it fails in one scenario and dies in another. */
const STUB = `
process.stdout.write(JSON.stringify({ name: 'Stub', version: '1', threads: Number(process.env.OMP_NUM_THREADS) }) + '\\n');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { op, scenario, trials } = JSON.parse(line);
  if (scenario?.id === 'kernel_softmax') console.log(JSON.stringify({ error: 'no softmax here' }));
  else if (scenario?.id === 'kernel_matmul') process.exit(3);
  else console.log(JSON.stringify(op === 'block' ? { timings_ns: new Array(trials).fill(1e9) } : {}));
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

  test.skipIf(process.platform === 'win32')(
    'times ours and a peer in turn, with as many threads, and gives ratios with quartiles',
    async () => {
      const out = file('peers.json');
      const args = ['--filter', 'forward_tiny,kernel', '--trials', '4', '--rounds', '2', '--threads', '2'];
      const { code, stdout, stderr } = await runBench('peers.js', [...args, '--python', stub, '--out', out]);
      expect(code, stderr).toBe(0);
      const { metadata, members, scenarios } = JSON.parse(readFileSync(out, 'utf8'));
      expect(metadata).toMatchObject({ n_trials: 4, n_rounds: 2, cpu_model: text, load_average: number });
      expect(members.ours).toMatchObject({ name: 'sgemoe', version: text, backend: text, threads: number });
      expect(members.numpy).toEqual({ name: 'Stub', version: '1', threads: members.ours.threads });
      const [forward, softmax, rmsNorm, matmul] = scenarios;
      expect(scenarios.map(({ id }: { id: string }) => id)).toEqual([IDS[0], ...IDS.slice(-3)]);
      expect(forward).toEqual({
        id: 'forward_tiny',
        params: { work: 'forward', config: expect.objectContaining({ hidden_size: 64 }), batch: 2, seq: 32 },
        rounds: 2,
        trials_per_round: 2,
        inner_iterations: 1,
        figures: { ours: expect.anything(), numpy: expect.anything() },
      });
      const { ours, numpy } = forward.figures;
      expect(ours).toEqual({
        median_ns: number,
        q1_ns: number,
        q3_ns: number,
        timings_ns: [
          [number, number],
          [number, number],
        ],
      });
      expect(numpy.median_ns).toBe(1e9);
      const roundMedians = ours.timings_ns.map(([a, b]: number[]) => (a + b) / 2);
      expect(numpy.ratio.per_round).toEqual(roundMedians.map((time: number) => 1e9 / time));
      const { q1, median, q3 } = numpy.ratio;
      expect(q1).toBeLessThanOrEqual(median);
      expect(median).toBeLessThanOrEqual(q3);
      expect(rmsNorm.figures.numpy.ratio.median).toBeGreaterThan(1);

      // A peer that fails in a scenario is left out of it, with a sentence; the rest goes on.
      expect(Object.keys(softmax.figures)).toEqual(['ours']);
      expect(Object.keys(matmul.figures)).toEqual(['ours']);
      expect(stderr).toContain('peers: Stub: kernel_softmax failed, no softmax here');
      expect(stderr).toContain('peers: Stub: kernel_matmul failed, its process ended: exit code 3');
      expect(stdout).toMatch(/^\| scenario \| threads \| sgemoe \S+ \| Stub 1 \| Stub \/ ours \|$/m);
      expect(stdout).toMatch(
        /^\| forward_tiny \| \d \| \S+ [mu]s \| 1\.00 s \| [\d.]+x \([\d.]+x to [\d.]+x\) \|$/m,
      );
      expect(stdout).toMatch(/^\| kernel_softmax \| \d \| .* \| - \| - \|$/m);
    },
  );

  test('without any Python it says so and times ours', async () => {
    mkdirSync(file('empty'));
    const { PATH } = process.env;
    process.env.PATH = file('empty');
    try {
      const args = ['--trials', '1', '--filter', 'kernel_s', '--torch', join(PEERS, 'torch_peer.py')];
      const { code, stdout, stderr } = await runBench('peers.js', args);
      expect(code, stderr).toBe(0);
      expect(stderr).toContain('peers: NumPy is left out, its process ended: spawn python3 ENOENT');
      expect(stderr).toContain('peers: PyTorch is left out, its process ended: spawn python3 ENOENT');
      expect(stdout).toMatch(
        /^\| scenario \| threads \| sgemoe \S+ \|\n\| --- \| ---: \| ---: \|\n\| kernel_softmax \| \d \| \S+ \wu?s \|\n$/,
      );
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
    [['--torch', 'no/torch.py'], /--torch no\/torch\.py: there is no such file\./],
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
    const { members, scenarios, bytes } = JSON.parse(readFileSync(out, 'utf8'));
    expect(Object.keys(members)).toEqual(['ours', 'q4_0']);
    expect(scenarios[0].figures.q4_0.ratio.median).toBeGreaterThan(0);
    expect(bytes[0].stored).toBeLessThan(0.2 * bytes[0].float);
    expect(stdout).toContain(`adapters_64: weights of ${bytes[0].stored} bytes in q4_0`);
  });

  test.skipIf(process.platform === 'win32')(
    'refuses to compare with a peer that computes another loss',
    async () => {
      const bin = join(folder.path, 'venv', 'bin');
      mkdirSync(bin, { recursive: true });
      const answers = STUB.replace(': {}));', ': { value: 1 }));');
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
    const { members, scenarios } = JSON.parse(readFileSync(out, 'utf8'));
    expect(members.numpy).toMatchObject({ name: 'NumPy', threads: 1 });
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
