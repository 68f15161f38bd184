/** The page at '/' in a real browser, before a real server. */
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launchBrowser, skippedWithoutBrowser } from '../helpers/browser';
import { ByteTokenizer, byteModel, Engine } from './engines';
import { eventually, openServer } from './servers';

/** Large enough that a completion can be stopped before its end, small enough for any backend. */
const MODEL = { hiddenDim: 256, ffnDim: 1024, nLayers: 3, nExperts: 8, topKExperts: 2, maxSeqLen: 4096 };
const K = MODEL.topKExperts;
const [LIGHT_NONE, DARK_NONE] = ['238,240,243', '34,39,47'];
const HURT = '<img src=x onerror="window.hurt = 1">';

interface Cells {
  /** Colours of the cells that differ from `none`, by column. */
  chosen: string[][];
  none: string;
}

describe.skipIf(skippedWithoutBrowser(__filename))('the playground in a browser', () => {
  let browser: Browser;
  let server: Awaited<ReturnType<typeof openServer>>;
  const failures: string[] = [];
  const requests: string[] = [];

  beforeAll(async () => {
    browser = await launchBrowser();
    server = await openServer({ engine: await Engine.create(byteModel(MODEL), new ByteTokenizer()) });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  async function open(url = server.url, options: BrowserContextOptions = {}): Promise<Page> {
    const page = await browser.newPage(options);
    failures.length = 0;
    requests.length = 0;
    page.on('pageerror', (error) => failures.push(error.message));
    // The ignored warning is about this test's own reading of pixels.
    page.on('console', (message) => {
      if (!/willReadFrequently/.test(message.text())) failures.push(message.text());
    });
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(url);
    return page;
  }

  async function complete(page: Page, prompt: string, fields: Record<string, string> = {}): Promise<void> {
    await page.fill('#prompt', prompt);
    for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, value);
    await page.keyboard.press('Control+Enter');
  }

  const ended = (page: Page) => page.waitForSelector('#run:enabled');

  /** The pixels of a layer's canvas for the first tokens. */
  async function cellsOf(page: Page, layer: number, count: number): Promise<Cells> {
    const pixels: string[][] = await page.$eval(
      `.columns .row >> nth=${layer} >> canvas`,
      (element, columns) => {
        const canvas = element as unknown as { height: number; getContext(kind: '2d'): never };
        const context = canvas.getContext('2d') as {
          getImageData(...box: number[]): { data: Uint8ClampedArray };
        };
        return Array.from({ length: columns }, (_, column) => {
          const { data } = context.getImageData(column, 0, 1, canvas.height);
          return Array.from({ length: canvas.height }, (_, row) => data.slice(4 * row, 4 * row + 3).join());
        });
      },
      count,
    );
    const none = pixels[0].find((colour) => pixels[0].filter((other) => other === colour).length > 1) ?? '';
    return { none, chosen: pixels.map((column) => column.filter((colour) => colour !== none)) };
  }

  test('writes what the server streams, and counts it', async () => {
    const page = await open();
    await page.waitForSelector('#model:has-text("3 layers of 8 experts, 2 for each token")');
    await complete(page, 'Once', { max_tokens: '40', seed: '5' });
    await ended(page);
    const answer = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Once', max_tokens: 40, temperature: 0.8, seed: 5 }),
    });
    const { choices } = (await answer.json()) as { choices: { text: string }[] };
    expect(await page.textContent('#written')).toBe(choices[0].text);
    expect(await page.textContent('#given')).toBe('Once');
    expect(await page.textContent('#figures')).toMatch(
      /^40 tokens · [\d.]+ tokens\/s · first token after .* · 4 prompt tokens.* · reached the limit of tokens$/,
    );
    expect(await page.getAttribute('#written', 'aria-busy')).toBe('false');
    expect(failures).toEqual([]);
    expect(requests.filter((url) => !url.startsWith(`${server.url}/`))).toEqual([]);
    await page.close();
  });

  test('colours as many experts of each layer as a token went through', async () => {
    const page = await open();
    await complete(page, 'Once', { max_tokens: '20' });
    await ended(page);
    expect(await page.$$eval('.name', (names) => names.length)).toBe(20);
    expect(await page.$$eval('.columns canvas', (all) => all.length)).toBe(3);
    for (const layer of [0, 1, 2]) {
      const { none, chosen } = await cellsOf(page, layer, 20);
      expect(none).toBe(LIGHT_NONE);
      expect(chosen.map((column) => column.length)).toEqual(new Array(20).fill(K));
    }
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.waitForSelector('#run');
    expect((await cellsOf(page, 0, 20)).none).toBe(DARK_NONE);
    await page.close();
  });

  test('shows the layers with experts of a model with a dense one, and the tokens of one without experts', async () => {
    const dense = { denseLayers: [1], denseFfnDim: 20 };
    const all = { nExperts: 0, topKExperts: 0, ffnDim: 0, denseLayers: [0, 1, 2], denseFfnDim: 20 };
    for (const [shape, title, heading, rows] of [
      [dense, '1 dense and 2 layers of 8 experts, 2 for each token', 'Experts', ['layer 0', 'layer 2']],
      [all, '3 dense layers; context', 'Tokens', []],
    ] as const) {
      const own = await openServer({
        engine: await Engine.create(byteModel({ ...MODEL, ...shape }), new ByteTokenizer()),
      });
      const page = await open(own.url);
      await page.waitForSelector(`#model:has-text("${title}")`);
      await complete(page, 'Once', { max_tokens: '6' });
      await ended(page);
      expect(await page.$$eval('.name', (names) => names.length)).toBe(6);
      expect(await page.$$eval('.layers .row', (all) => all.map(({ textContent }) => textContent))).toEqual(
        rows,
      );
      expect(await page.textContent('#experts-title')).toBe(heading);
      expect(await page.isVisible('#experts > .legend')).toBe(rows.length > 0);
      expect(await page.$$eval('#details table', (tables) => tables.length)).toBe(rows.length > 0 ? 2 : 1);
      expect(failures).toEqual([]);
      await page.close();
      await own.close();
    }
  });

  test('tells alternatives and experts of the token under the pointer and at the keyboard', async () => {
    const page = await open();
    await complete(page, 'Once', { max_tokens: '20' });
    await ended(page);
    await page.hover('.columns', { position: { x: 16 * 3 + 8, y: 90 } });
    const title = () => page.textContent('.details h3');
    expect(await title()).toMatch(/^Token 4: /);
    const shares = (caption: string) =>
      page.$$eval(`table:has-text("${caption}") .value`, (cells) =>
        cells.map((cell) => Number.parseFloat(cell.textContent ?? '')),
      );
    const probabilities = await shares('Probabilities');
    expect([5, 6]).toContain(probabilities.length);
    expect(probabilities).toEqual([...probabilities].sort((a, b) => b - a));
    expect(await page.$$eval('tr.chosen', (rows) => rows.length)).toBe(1);
    const weights = await shares('Experts');
    expect(weights).toHaveLength(3 * K);
    for (let i = 0; i < weights.length; i += K) expect(weights[i] + weights[i + 1]).toBeCloseTo(1, 1);
    await page.focus('.scroller');
    for (const [pressed, token] of [
      ['ArrowRight', 5],
      ['Home', 1],
      ['ArrowLeft', 1],
      ['PageUp', 11],
      ['End', 20],
    ]) {
      await page.keyboard.press(String(pressed));
      expect(await title()).toMatch(`Token ${token}:`);
      expect(await page.getAttribute('.scroller', 'aria-valuenow')).toBe(String(token));
    }
    expect(await page.getAttribute('.scroller', 'aria-valuetext')).toMatch(
      /; alternatives ".*; layer 0: experts \d \(\d\.\d\d\), .*; layer 2: experts /s,
    );
    await page.close();
  });

  test.each(['Escape', 'the button'])('%s stops the server, and the text so far stays', async (way) => {
    const page = await open();
    const before = server.engine.metrics().requests.aborted;
    await complete(page, 'Once', { max_tokens: '4000' });
    await page.waitForSelector('.name >> nth=3', { state: 'attached' });
    expect(await page.textContent('#written')).not.toBe('');
    if (way === 'Escape') await page.keyboard.press('Escape');
    else await page.click('#stop-button');
    await ended(page);
    await eventually(() => server.engine.metrics().requests.aborted === before + 1);
    expect(server.engine.metrics().running).toBe(0);
    expect(await page.textContent('#figures')).toMatch(/stopped by you$/);
    expect(await page.isHidden('#error')).toBe(true);
    expect(await page.$$eval('.name', (names) => names.length)).toBeLessThan(4000);
    expect(failures).toEqual([]);
    await page.close();
  });

  test('says what the server says is wrong', async () => {
    const page = await open();
    await complete(page, 'Once', { top_p: '7' });
    await ended(page);
    expect(await page.textContent('[role=alert]')).toMatch(/'top_p' must be .*, got 7/);
    await complete(page, 'Once', { top_p: '', max_tokens: '2' });
    await ended(page);
    expect(await page.isHidden('#error')).toBe(true);
    await page.close();
  });

  test('says that the server is gone', async () => {
    const other = await openServer();
    const page = await open(other.url);
    await other.close();
    await complete(page, 'Once');
    await page.waitForSelector('[role=alert]:not(:empty)');
    await ended(page);
    expect(await page.textContent('[role=alert]')).toBe('The server does not answer. Is it still running?');
    await page.close();
  });

  test('asks for an API key where one is needed', async () => {
    const locked = await openServer({ apiKeys: ['sesame'] });
    const page = await open(locked.url);
    await page.waitForSelector('#key:focus');
    await page.fill('#key', 'sesame');
    await page.keyboard.press('Tab');
    await page.waitForSelector('#error', { state: 'hidden' });
    await complete(page, 'Once', { max_tokens: '3' });
    await ended(page);
    expect(await page.textContent('#figures')).toMatch(/^3 tokens/);
    await page.close();
    await locked.close();
  });

  /** A stream that no model writes. */
  async function openOn(chunks: unknown[]): Promise<Page> {
    const page = await open();
    const body = chunks.map(
      (chunk) => `data: ${typeof chunk === 'string' ? chunk : JSON.stringify(chunk)}\n\n`,
    );
    const answer = { contentType: 'text/event-stream', body: body.join('') };
    await page.route('**/v1/completions', (route) => route.fulfill(answer));
    await complete(page, HURT);
    await ended(page);
    return page;
  }

  function chunkOf(text: string) {
    const token = { id: 1, text, logprob: -1, top: [{ id: 2, text, logprob: -0.5 }] };
    const routing = { experts: [[0, 1]], weights: [[0.9, 0.1]] };
    return { choices: [{ text, finish_reason: null, sgemoe: { tokens: [{ ...token, ...routing }] } }] };
  }

  test('shows prompts and tokens as text, whatever they hold', async () => {
    const page = await openOn([chunkOf(HURT), '[DONE]']);
    expect(await page.textContent('#output')).toBe(HURT + HURT);
    await page.hover('.piece');
    expect(await page.textContent('tr.chosen code')).toBe(HURT.replaceAll(' ', '·'));
    expect(await page.evaluate('window.hurt')).toBeUndefined();
    expect(failures).toEqual([]);
    await page.close();
  });

  test.each([
    [
      'an error within the stream',
      [chunkOf('a'), { error: { message: 'The worker died.' } }],
      'The worker died.',
    ],
    ['a stream cut off', [chunkOf('a')], 'The connection ended before the completion did.'],
  ])('%s is shown, and the text so far stays', async (_, chunks, sentence) => {
    const page = await openOn(chunks);
    expect(await page.textContent('[role=alert]')).toBe(sentence);
    expect(await page.textContent('#written')).toBe('a');
    await page.close();
  });

  test('is dark and as narrow as a phone where it should be', async () => {
    const page = await open(server.url, { colorScheme: 'dark', viewport: { width: 360, height: 700 } });
    expect(await page.getAttribute('#controls', 'open')).toBeNull();
    await page.fill('#prompt', 'Once');
    await page.click('#run');
    await ended(page);
    expect(await page.evaluate('document.scrollingElement.scrollWidth')).toBe(360);
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(20, 23, 28)');
    expect((await cellsOf(page, 0, 20)).none).toBe(DARK_NONE);
    expect(failures).toEqual([]);
    await page.close();
  });

  test('every control has a name', async () => {
    const page = await open();
    const nameless = await page.$$eval('input, textarea, button, [role=slider]', (all) =>
      all
        .map(
          (element) => element as unknown as { labels?: { length: number }; id: string; textContent: string },
        )
        .filter(({ labels, textContent }) => !labels?.length && textContent === '')
        .map(({ id }) => id),
    );
    expect(nameless).toEqual([]);
    await page.close();
  });
});
