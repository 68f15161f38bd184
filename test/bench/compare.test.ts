import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { runBench, temporaryFolder } from './command';

/** A file with the keys that all languages have, and none of ours. */
const OTHER = {
  metadata: {
    language: 'rust',
    language_version: '1.80',
    os: 'linux',
    cpu_model: 'cpu <of> another & machine',
    timestamp: '2026-01-01T00:00:00Z',
    seed: 42,
    n_trials: 10,
    n_warmup: 3,
  },
  scenarios: [
    {
      id: 'kernel_softmax',
      axis: 'compiler',
      params: { batch: 1, n: 1000 },
      timings_ns: [900, 1000, 1100],
      median_ns: 1000,
      iqr_ns: 100,
      memory: { peak_rss_bytes: 4e6, alloc_bytes: 0 },
    },
    { id: 'only_here', axis: 'own', params: {}, median_ns: 2.5e6, iqr_ns: 1e5 },
  ],
};

describe('bench/compare.js', () => {
  const folder = temporaryFolder();
  afterAll(folder.remove);

  const write = (name: string, content: unknown) => {
    const file = join(folder.path, name);
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    return file;
  };
  const other = write('rust.json', OTHER);

  test('puts our results beside those of another language, with ratios to the fastest', async () => {
    const ours = join(folder.path, 'ours.json');
    await runBench('run.js', ['--filter', 'kernel', '--trials', '2', '--warmup', '0', '--out', ours]);
    const html = join(folder.path, 'report.html');
    const { code, stdout } = await runBench('compare.js', [ours, other, '--html', html]);
    expect(code).toBe(0);
    expect(stdout).toContain('| scenario | typescript | rust |');
    const row = /^\| kernel_softmax \| \S+ \w+ \((\S+)x\) \| 1\.00 us \((\S+)x\) \|$/m.exec(stdout)!;
    expect(Math.min(Number(row[1]), Number(row[2]))).toBe(1);
    expect(stdout).toMatch(/^\| kernel_matmul \| .* \| - \|$/m);
    expect(stdout).toMatch(/^\| only_here \| - \| 2\.50 ms \(1\.00x\) \|$/m);
    expect(stdout).toContain('> These results come from different machines');
    expect(readFileSync(html, 'utf8')).toContain('kernel_softmax');
  });

  test('makes a page that needs nothing else, with a bar and a whisker for each figure', async () => {
    const slower = structuredClone(OTHER);
    slower.metadata.language = 'go';
    slower.scenarios[0].median_ns = 2000;
    slower.scenarios[0].timings_ns = [2000];
    const html = join(folder.path, 'page.html');
    await runBench('compare.js', [other, write('go.json', slower), '--html', html]);
    const page = readFileSync(html, 'utf8');
    expect(page).not.toMatch(/<script|<link|src=|https?:/);
    expect(page.match(/<rect /g)).toHaveLength(4);
    expect(page.match(/stroke="#24292f" fill="none"/g)).toHaveLength(4);
    expect(page).toContain('2.00 us · 2.00x');
    expect(page).toContain('cpu &lt;of&gt; another &amp; machine');
    const widths = [...page.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width));
    expect(widths[0] / widths[1]).toBeCloseTo(0.5, 2);
  });

  test('tells two files of one language apart by what computed', async () => {
    const withThreads = (threads: number) => {
      const copy = structuredClone(OTHER) as typeof OTHER & { metadata: { threads?: number } };
      copy.metadata.threads = threads;
      return write(`threads-${threads}.json`, copy);
    };
    const { stdout } = await runBench('compare.js', [withThreads(1), withThreads(2)]);
    expect(stdout).toContain('| scenario | rust 1 thread | rust 2 threads |');
  });

  test.each([
    ['missing.json', null, /missing\.json can not be read: ENOENT/],
    ['text.json', 'hello', /text\.json is not JSON: /],
    ['array.json', [], /array\.json is not a benchmark result: it needs metadata\.language/],
    ['empty.json', { metadata: { language: 'x' }, scenarios: [{}] }, /scenario undefined needs an id/],
  ])('%s exits 2 with a sentence', async (name, content, sentence) => {
    const file = content === null ? join(folder.path, name) : write(name, content);
    const { code, stdout, stderr } = await runBench('compare.js', [file]);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });

  test('without a file it exits 2', async () => {
    const { code, stderr } = await runBench('compare.js', []);
    expect(code).toBe(2);
    expect(stderr).toContain("missing required argument 'files'");
  });
});
