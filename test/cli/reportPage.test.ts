/** The page of `sgemoe report` in a real browser. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launchBrowser, skippedWithoutBrowser } from '../helpers/browser';
import { type RunContent, writeRun } from './reportRuns';
import { sgemoe } from './run';

const HURT = '</script><script>window.hurt = 1</script><img src=x onerror="window.hurt = 1">';
const BOOK: RunContent = {
  steps: 60,
  // Layer 0: all tokens to expert 0, later evenly; layer 1: always even.
  load: (step) => [step <= 30 ? [1, 0] : [0.5, 0.5], [0.25, 0.25, 0.25, 0.25]],
  samples: [
    { step: 20, prompt: 'Once', text: ` ${HURT}` },
    { step: 40, prompt: 'Once', text: ' upon a time' },
  ],
  run: {
    options: { lr: 1e-3, note: HURT },
    result: { validation: { loss: 2.5, bitsPerByte: 3.6 }, seconds: 61 },
  },
};

describe.skipIf(skippedWithoutBrowser(__filename))('the report in a browser', () => {
  let browser: Browser;
  const failures: string[] = [];
  const requests: string[] = [];

  beforeAll(async () => {
    browser = await launchBrowser();
  });
  afterAll(() => browser?.close());

  async function open(
    contents: Record<string, RunContent>,
    options: BrowserContextOptions = {},
  ): Promise<Page> {
    const folders = Object.entries(contents).map(([name, content]) => writeRun(name, content));
    expect(await sgemoe(['report', ...folders])).toMatchObject({ code: 0, stderr: '' });
    const page = await browser.newPage(options);
    failures.length = 0;
    requests.length = 0;
    page.on('pageerror', (error) => failures.push(error.message));
    page.on('console', (message) => failures.push(message.text()));
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(join(folders[0], 'report.html')).href);
    return page;
  }

  const coloursOf = (page: Page, selector: string) =>
    page.$eval(selector, (element) => {
      const canvas = element as unknown as { width: number; height: number; getContext(kind: '2d'): never };
      const context = canvas.getContext('2d') as {
        getImageData(...box: number[]): { data: Uint8ClampedArray };
      };
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      const colours = new Set<string>();
      for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] === 255) colours.add(data.slice(i, i + 3).join());
      return { size: [canvas.width, canvas.height], colours: [...colours] };
    });

  test('draws its charts and heat maps without an error and without a request', async () => {
    const page = await open({ book: BOOK });
    expect(await page.title()).toBe('book · sgemoe report');
    expect(await page.$$eval('.chart canvas', (all) => all.length)).toBe(9);
    // The colour of the training curve, of the validation curve, and of the grid.
    const { colours } = await coloursOf(page, '.chart.wide canvas');
    expect(colours).toEqual(expect.arrayContaining(['37,99,235', '217,72,15', '225,229,234']));
    const [first, second] = [
      await coloursOf(page, '.layer:nth-child(1) canvas'),
      await coloursOf(page, '.layer:nth-child(2) canvas'),
    ];
    expect(first.size).toEqual([60, 2]);
    expect(first.colours.sort()).toEqual(['1,102,94', '140,81,10', '241,243,244']);
    expect(second).toEqual({ size: [60, 4], colours: ['241,243,244'] });
    expect(await page.textContent('.results tbody tr')).toMatch(/book.*finished.*60.*2\.5.*3\.6.*1:01/);
    expect(failures).toEqual([]);
    expect(requests).toHaveLength(1);
    await page.close();
  });

  test('tells the values under the pointer and at the keyboard', async () => {
    const page = await open({ book: BOOK });
    const step = () => page.textContent('.chart.wide .step');
    await page.hover('.chart.wide .u-over');
    expect(await step()).toMatch(/^step (29|30|31|32)$/);
    await page.focus('.chart.wide .plot');
    await page.keyboard.press('Home');
    expect(await step()).toBe('step 1');
    await page.keyboard.press('ArrowRight');
    expect(await step()).toBe('step 2');
    expect(await page.textContent('.chart.wide .value')).toBe('3.922');
    await page.hover('.layer canvas', { position: { x: 3, y: 3 } });
    const readout = () => page.textContent('.heat .readout');
    expect(await readout()).toBe('layer 0, expert 0, step 1: 100.0 % of the tokens, 2.00 of an even share');
    await page.focus('.heat .cells');
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight']) await page.keyboard.press(key);
    expect(await readout()).toBe('layer 1, expert 0, step 2: 25.0 % of the tokens, 1.00 of an even share');
    await page.close();
  });

  test('a name switches its line, by the keyboard too', async () => {
    const page = await open({ book: BOOK });
    const training = '37,99,235';
    await page.focus('.chart.wide .entry');
    await page.keyboard.press('Enter');
    expect(await page.getAttribute('.chart.wide .entry', 'aria-pressed')).toBe('false');
    expect((await coloursOf(page, '.chart.wide canvas')).colours).not.toContain(training);
    await page.keyboard.press('Enter');
    expect((await coloursOf(page, '.chart.wide canvas')).colours).toContain(training);
    await page.close();
  });

  test('shows names, samples and settings as text, whatever they hold', async () => {
    const page = await open({ '<b>bold<script>': BOOK });
    expect(await page.textContent('h1')).toBe('<b>bold<script>');
    expect(await page.textContent('pre')).toBe('Once upon a time');
    await page.focus('input[type=range]');
    await page.keyboard.press('ArrowLeft');
    expect(await page.textContent('output')).toBe('step 20');
    expect(await page.textContent('pre')).toBe(`Once ${HURT}`);
    expect(await page.textContent('.settings')).toContain(HURT);
    expect(await page.evaluate('window.hurt')).toBeUndefined();
    expect({ failures, requests: requests.length }).toEqual({ failures: [], requests: 1 });
    await page.close();
  });

  test('runs only its own scripts', async () => {
    const page = await open({ book: BOOK });
    await page.evaluate(`
      const script = document.createElement('script');
      script.textContent = 'window.hurt = 1';
      document.body.append(script);`);
    expect(await page.evaluate('window.hurt')).toBeUndefined();
    expect(failures.join()).toMatch(/Content Security Policy/);
    await page.close();
  });

  test('compares runs, dark and as narrow as a phone', async () => {
    const wide: RunContent = { steps: 5000, run: { options: { lr: 2e-3, note: HURT } } };
    const page = await open(
      { book: BOOK, wide },
      { colorScheme: 'dark', viewport: { width: 360, height: 700 } },
    );
    expect(await page.evaluate('document.scrollingElement.scrollWidth')).toBe(360);
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(20, 23, 28)');
    expect(await page.$$eval('.results tbody tr', (rows) => rows.length)).toBe(2);
    expect(await page.$$eval('.chart.wide .entry', (entries) => entries.length)).toBe(4);
    // The lighter blue and orange of the dark theme.
    const { colours } = await coloursOf(page, '.chart.wide canvas');
    expect(colours).toEqual(expect.arrayContaining(['116,169,255', '255,159,107']));
    const visible = () =>
      page.$$eval(
        '.settings tbody tr',
        (rows) => rows.filter((row) => row.getClientRects().length > 0).length,
      );
    expect(await visible()).toBe(1);
    await page.uncheck('.choice input');
    expect(await visible()).toBe(2);
    expect(failures).toEqual([]);
    await page.close();
  });

  test('takes its colours anew when the theme changes', async () => {
    const page = await open({ book: BOOK }, { colorScheme: 'light' });
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.waitForFunction('getComputedStyle(document.body).backgroundColor === "rgb(20, 23, 28)"');
    expect((await coloursOf(page, '.chart.wide canvas')).colours).toContain('255,159,107');
    expect((await coloursOf(page, '.layer:nth-child(2) canvas')).colours).toEqual(['38,43,51']);
    await page.close();
  });

  test('draws the load of the layers with experts beside dense ones', async () => {
    const load = () => [[], [0.25, 0.75], []];
    const page = await open({ mixed: { steps: 5, load } });
    expect(
      await page.$$eval('.heat .layer span', (all) => all.map(({ textContent }) => textContent)),
    ).toEqual(['layer 1']);
    expect((await coloursOf(page, '.heat canvas')).size).toEqual([5, 2]);
    await page.focus('.heat .cells');
    await page.keyboard.press('ArrowDown');
    expect(await page.textContent('.heat .readout')).toMatch(/layer 1, expert 1, .*75\.0 %/);
    expect(failures).toEqual([]);
    await page.close();
  });

  test('shows a run that has hardly begun', async () => {
    const page = await open({ none: { steps: 0 }, one: { steps: 1 } });
    expect(await page.$$eval('.results tbody tr', (rows) => rows.length)).toBe(2);
    expect(await page.textContent('.results tbody')).toMatch(/not finished/);
    expect(failures).toEqual([]);
    await page.close();
  });

  test('says why a run failed, and how many steps were skipped', async () => {
    const run = { error: { code: 'SGEMOE_TRAINING_DIVERGED', message: 'diverged' } };
    const page = await open({ diverged: { steps: 12, skipped: 10, run } });
    expect(await page.textContent('.results tbody')).toMatch(/failed: SGEMOE_TRAINING_DIVERGED.*12.*10$/);
    expect(failures).toEqual([]);
  });
});
