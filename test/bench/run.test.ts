import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backendInfo } from '../../src/backend';
import { type Ended, ROOT, runBench, temporaryFolder } from './command';

const TRIALS = 2;
const WARMUP = 1;
/** Threads with `--threads 2`; plain TypeScript has no pool. */
const THREADS = backendInfo().backend === 'reference' ? 1 : 2;

const IDS = [
  'mem_train_step',
  'mem_scale_batch_1',
  'mem_scale_batch_2',
  'mem_scale_batch_4',
  'mem_scale_batch_8',
  'mem_scale_seq_8',
  'mem_scale_seq_16',
  'mem_scale_seq_32',
  'mem_scale_seq_64',
  'kernel_matmul',
  'kernel_softmax',
  'kernel_rmsnorm',
  'dispatch_warm',
  'dispatch_cold',
  'parallel_T1',
  'parallel_T2',
  'parallel_T4',
  'parallel_train_T1',
  'parallel_train_T2',
  'parallel_train_T4',
  'scale_forward_256',
  'scale_train_256',
];

/** Tokens of a run, from the sizes that are the same in every language. */
const TOKENS: Record<string, number> = {
  mem_train_step: 16,
  mem_scale_batch_1: 32,
  mem_scale_batch_8: 256,
  mem_scale_seq_8: 16,
  mem_scale_seq_64: 128,
  dispatch_warm: 64,
  dispatch_cold: 8,
  parallel_T4: 4 * 64,
  parallel_train_T2: 2 * 16,
  scale_forward_256: 64,
  scale_train_256: 16,
};

const number = expect.any(Number);
const text = expect.stringMatching(/./);

/** The type of a value that may also be null. */
function nullOr(matcher: unknown): { asymmetricMatch: (value: unknown) => boolean } {
  const { asymmetricMatch } = matcher as { asymmetricMatch: (value: unknown) => boolean };
  return { asymmetricMatch: (value) => value === null || asymmetricMatch.call(matcher, value) };
}

const METADATA = {
  language: 'typescript',
  language_version: expect.stringMatching(/^\d+\.\d+/),
  os: text,
  cpu_model: text,
  cpu_count: number,
  timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
  seed: 42,
  n_trials: TRIALS,
  n_warmup: WARMUP,
  backend: text,
  blas: nullOr(text),
  instruction_set: text,
  threads: THREADS,
  node: process.versions.node,
  v8: process.versions.v8,
  git_commit: nullOr(expect.stringMatching(/^[0-9a-f]{40}$/)),
  git_dirty: nullOr(expect.any(Boolean)),
  load_average: number,
};

const SCENARIO = {
  id: text,
  axis: text,
  params: expect.objectContaining({ batch: number, thread_count: number }),
  warmup_runs: WARMUP,
  trial_runs: TRIALS,
  inner_iterations: number,
  timings_ns: new Array(TRIALS).fill(number),
  cpu_times_ns: new Array(TRIALS).fill(number),
  warmup_timings_ns: new Array(WARMUP).fill(number),
  median_ns: number,
  p95_ns: number,
  min_ns: number,
  max_ns: number,
  iqr_ns: number,
  cpu_median_ns: number,
  single_call_median_ns: number,
  throughput_tokens_per_sec: nullOr(number),
  memory: {
    peak_rss_bytes: number,
    alloc_bytes: number,
    alloc_heap_bytes: number,
    alloc_external_bytes: number,
    alloc_native_bytes: nullOr(number),
  },
  gc: { total_gc_time_ns: number, gc_pause_count: number },
  numerical: { nan_count: 0, inf_count: 0, max_abs: number },
  derived: expect.objectContaining({
    alloc_rate_bytes_per_sec: number,
    gc_throughput: number,
    gflops: nullOr(number),
  }),
  known_flops: nullOr(number),
  parallel_semantics: nullOr(text),
};

interface Scenario {
  id: string;
  axis: string;
  params: Record<string, number>;
  timings_ns: number[];
  median_ns: number;
  p95_ns: number;
  min_ns: number;
  max_ns: number;
  throughput_tokens_per_sec: number | null;
  memory: { peak_rss_bytes: number; alloc_bytes: number; alloc_external_bytes: number };
  numerical: { max_abs: number };
  derived: Record<string, number>;
  known_flops: number | null;
  parallel_semantics: string | null;
}

describe('a short run of bench/run.js', () => {
  let ended: Ended;
  let scenarios: Scenario[];

  beforeAll(async () => {
    ended = await runBench('run.js', ['--trials', `${TRIALS}`, '--warmup', `${WARMUP}`, '--threads', '2']);
    expect(ended.stderr).toContain('[22/22]');
    expect(ended.code).toBe(0);
    scenarios = JSON.parse(ended.stdout).scenarios;
  }, 180_000);

  const scenario = (id: string) => scenarios.find((candidate) => candidate.id === id)!;

  test('prints nothing but the JSON to stdout, and a line a scenario to stderr', () => {
    expect(Object.keys(JSON.parse(ended.stdout))).toEqual(['metadata', 'scenarios']);
    for (const id of IDS) expect(ended.stderr).toContain(` ${id} `);
  });

  test('says in the metadata what computed where and when', () => {
    expect(JSON.parse(ended.stdout).metadata).toEqual(METADATA);
    if (!existsSync(join(ROOT, '.git'))) expect(JSON.parse(ended.stdout).metadata.git_commit).toBeNull();
  });

  test('has the 22 scenarios of the other languages, in their order', () => {
    expect(scenarios.map(({ id }) => id)).toEqual(IDS);
    expect([...new Set(scenarios.map(({ axis }) => axis))]).toEqual([
      'memory',
      'compiler',
      'type_system',
      'parallel',
      'scale',
    ]);
  });

  test.each(IDS)('%s has every key, finite figures and no NaN or Inf in its output', (id) => {
    expect(scenario(id)).toEqual(SCENARIO);
    expect(scenario(id).numerical.max_abs).toBeGreaterThan(0);
  });

  test('orders its statistics as they must be', () => {
    for (const { timings_ns, min_ns, median_ns, p95_ns, max_ns } of scenarios) {
      expect(min_ns).toBe(Math.min(...timings_ns));
      expect(max_ns).toBe(Math.max(...timings_ns));
      expect(median_ns).toBe((min_ns + max_ns) / 2); // of two trials
      expect(min_ns).toBeGreaterThan(0);
      expect(p95_ns).toBeLessThanOrEqual(max_ns);
    }
  });

  test.each(Object.entries(TOKENS))('%s counts %i tokens a run', (id, tokens) => {
    const { throughput_tokens_per_sec, median_ns } = scenario(id);
    expect((throughput_tokens_per_sec! * median_ns) / 1e9).toBeCloseTo(tokens, 6);
  });

  test('gives the kernels their arithmetic, and the matmul its rate', () => {
    expect(scenario('kernel_matmul').known_flops).toBe(2 * 64 ** 3);
    const { median_ns, derived } = scenario('kernel_matmul');
    expect(derived.gflops).toBeCloseTo((2 * 64 ** 3) / median_ns, 9);
    expect(scenario('kernel_softmax').known_flops).toBeGreaterThan(0);
    expect(scenario('kernel_rmsnorm').known_flops).toBeGreaterThan(0);
    expect(scenario('dispatch_warm').known_flops).toBeNull();
  });

  test('says of parallel scenarios what runs side by side, at which rate and what the workers cost', () => {
    for (const threads of [1, 2, 4]) {
      const forward = scenario(`parallel_T${threads}`);
      expect(forward.params.thread_count).toBe(threads);
      expect(forward.parallel_semantics).toMatch(/worker threads/);
      expect(forward.derived.inferences_per_sec).toBeCloseTo((threads * 1e9) / forward.median_ns, 6);
      expect(forward.derived.pool_startup_ns).toBeGreaterThan(0);
      const train = scenario(`parallel_train_T${threads}`);
      expect(train.derived.train_steps_per_sec).toBeCloseTo((threads * 1e9) / train.median_ns, 6);
    }
    expect(scenario('dispatch_warm').params.thread_count).toBe(THREADS);
    expect(scenario('dispatch_warm').parallel_semantics).toBeNull();
  });

  test('measures the peak memory of each scenario by itself, in bytes', () => {
    // A Node process with the library takes tens of MB; the small preset's weights, gradients and moments 126 MB.
    for (const { memory } of scenarios) expect(memory.peak_rss_bytes).toBeGreaterThan(20e6);
    expect(scenario('scale_train_256').memory.peak_rss_bytes).toBeGreaterThan(126e6);
    // If the process had run the earlier scenarios too, the kernel would inherit the peak of B=8.
    expect(scenario('kernel_softmax').memory.peak_rss_bytes).toBeLessThan(
      scenario('mem_scale_batch_8').memory.peak_rss_bytes,
    );
  });

  test('sees what a run allocates: the logits of a forward, the weights of a construction', () => {
    const logits = (tokens: number) => tokens * 1000 * 4;
    expect(scenario('mem_scale_batch_8').memory.alloc_external_bytes).toBeGreaterThanOrEqual(logits(256));
    expect(scenario('mem_scale_batch_8').memory.alloc_external_bytes).toBeLessThan(logits(256) * 1.1);
    expect(scenario('dispatch_cold').memory.alloc_bytes).toBeGreaterThan(542_528 * 4);
    expect(scenario('kernel_softmax').memory.alloc_external_bytes).toBe(0);
  });
});

describe('flags of bench/run.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);

  test.each([
    [['--trials', '0'], /--trials <n>' argument '0' is invalid\. It must be an integer in 1\.\.100000\./],
    [['--trials', 'many'], /--trials <n>' argument 'many' is invalid/],
    [['--warmup', '-1'], /--warmup <n>' argument '-1' is invalid\. It must be an integer in 0\.\.100000\./],
    [['--threads', '0'], /--threads <n>' argument '0' is invalid\. It must be an integer in 1\.\.256\./],
    [['--backend', 'gpu'], /argument 'gpu' is invalid\. It must be one of auto, reference, wasm, builtin/],
    [['--filter', 'nothing'], /--filter nothing matches no scenario\. They are: mem_train_step, /],
    [['--filter', 'overhead'], /--filter overhead matches no scenario \(with --all it would\)/],
    [['--out', 'no/such/folder/r.json'], /--out no\/such\/folder\/r\.json: there is no folder /],
    [['--frobnicate'], /unknown option '--frobnicate'/],
    [['leftover'], /too many arguments/],
  ])('%j exits 2 with a sentence, and prints no JSON', async (args, sentence) => {
    const { code, stdout, stderr } = await runBench('run.js', args);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });

  test('--filter takes parts of ids, --out a file, --backend what computes', async () => {
    const out = join(folder.path, 'results.json');
    const args = [
      '--filter',
      'kernel_s,kernel_r',
      '--trials',
      '1',
      '--warmup',
      '0',
      '--backend',
      'reference',
    ];
    const { code, stdout } = await runBench('run.js', [...args, '--out', out]);
    expect(code).toBe(0);
    expect(stdout).toBe('');
    const { metadata, scenarios } = JSON.parse(readFileSync(out, 'utf8'));
    expect(metadata.backend).toBe('reference');
    expect(metadata.blas).toBeNull();
    expect(scenarios.map(({ id }: Scenario) => id)).toEqual(['kernel_softmax', 'kernel_rmsnorm']);
  });

  test('--all has axes of its own: one token, sampling, the floor of a step', async () => {
    const wanted = [
      'decode_tiny_context_8_frozen',
      'latency_forward',
      'sampling_greedy',
      'overhead_train_64',
    ];
    const args = ['--all', '--filter', wanted.join(), '--trials', '1', '--warmup', '0'];
    const { code, stdout } = await runBench('run.js', args);
    expect(code).toBe(0);
    const scenarios: Scenario[] = JSON.parse(stdout).scenarios;
    expect(scenarios.map(({ axis }) => axis)).toEqual(['decode', 'latency', 'sampling', 'overhead']);
    const { derived, median_ns } = scenarios[3];
    const { floor_median_ns, adamw_median_ns, step_over_floor, step_over_floor_and_adamw } = derived;
    expect(step_over_floor).toBeCloseTo(median_ns / floor_median_ns, 9);
    expect(step_over_floor_and_adamw).toBeCloseTo(median_ns / (floor_median_ns + adamw_median_ns), 9);
  });
});
