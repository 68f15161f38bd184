/** dist/web in Chromium: a folder of static files, without the headers that cross-origin isolation asks for. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ByteTokenizer, generate, ModelConfig, MoETransformer } from '../../src';
import { createReferenceKernels } from '../../src/backend/reference';
import { ROOT, WITHOUT_WASM } from '../backend/child';
import { launchBrowser, skippedWithoutBrowser } from '../helpers/browser';

const skip = WITHOUT_WASM || skippedWithoutBrowser(__filename);
const TYPES: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};
const PROMPT = [1, 2, 3, 4];

let folder: string;
let server: Server;
let address: string;
let browser: Browser;
let page: Page;
let model: MoETransformer;
const problems: string[] = [];

beforeAll(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), 'sgemoe-web-'));
  execFileSync(process.execPath, [join(ROOT, 'scripts', 'build-web.js'), '--out', join(folder, 'web')]);
  model = MoETransformer.create(ModelConfig.tiny(), { seed: 5, kernels: createReferenceKernels() });
  await model.save(join(folder, 'model'), new ByteTokenizer().files());
  writeFileSync(join(folder, 'blank.html'), '<!doctype html><title>blank</title>');
  server = createServer((request, response) => {
    const file = join(folder, normalize(new URL(request.url ?? '/', 'http://x').pathname));
    if (!existsSync(file) || extname(file) === '') {
      response.writeHead(404).end();
      return;
    }
    response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream');
    response.end(readFileSync(file));
  }).listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  browser = await launchBrowser();
  page = await browser.newPage();
  page.on('pageerror', (error) => problems.push(error.message));
});

afterAll(async () => {
  if (skip) return;
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** What a script returns that runs in a new, empty page; `web` is the bundle. Text, since the test runner rewrites imports. */
async function inPage(script: string): Promise<unknown> {
  await page.goto(`${address}/blank.html`);
  return page.evaluate(`(async () => { const web = await import('/web/index.js'); ${script} })()`);
}

describe.skipIf(skip)('the bundle for browsers', () => {
  it('imports nothing', () => {
    const text = readFileSync(join(folder, 'web', 'index.js'), 'utf8');
    expect(text).not.toMatch(/\bfrom\s*["']|\bimport\s*["'({](?!meta)|\brequire\(|node:/);
  });

  it('takes at most 400 KB gzipped with its kernels', () => {
    const bytes = ['index.js', 'kernels.wasm'].map(
      (name) => gzipSync(readFileSync(join(folder, 'web', name))).length,
    );
    expect(bytes[0] + bytes[1]).toBeLessThan(400 * 1024);
  });

  it('says what to do first when something computes before the kernels are there', async () => {
    const code = await inPage(
      'try { web.MoETransformer.create(web.ModelConfig.tiny()); } catch (error) { return error.code; }',
    );
    expect(code).toBe('SGEMOE_BACKEND_UNAVAILABLE');
  });

  it('computes the logits of a fetched checkpoint as Node does, and generates from it', async () => {
    const found = (await inPage(`
      const { model, tokenizer } = await web.fetchModel('${address}/model');
      const prompt = ${JSON.stringify(PROMPT)};
      const logits = model.nextTokenLogits(prompt, new Float32Array(model.vocabSize));
      const { backend, instructionSet } = web.backendInfo();
      const text = tokenizer.encode('hä');
      return { backend, instructionSet, logits: [...logits], text: [...text], written: web.generate(model, prompt, 5) };
    `)) as { logits: number[]; written: number[] };
    expect(found).toMatchObject({ backend: 'wasm', instructionSet: 'simd128', text: [104, 195, 164] });
    expect(found.written).toEqual(generate(model, PROMPT, 5));
    const want = model.nextTokenLogits(PROMPT, new Float32Array(model.vocabSize));
    // float32 through some ten sums of at most 256 products, against the reference's float64 sums.
    const bound = 10 * Math.sqrt(256) * 2 ** -24 * Math.max(...want.map(Math.abs));
    expect(Math.max(...want.map((value, i) => Math.abs(found.logits[i] - value)))).toBeLessThan(bound);
  });

  it('computes with the reference backend where the kernels do not compile, and says why', async () => {
    const found = (await inPage(`
      const { backend, notes } = await web.load('/blank.html');
      const model = web.MoETransformer.create(web.ModelConfig.tiny(), { seed: 5 });
      const logits = model.nextTokenLogits(${JSON.stringify(PROMPT)}, new Float32Array(model.vocabSize));
      return { backend, notes, logits: [...logits] };
    `)) as { notes: string[]; logits: number[] };
    expect(found).toMatchObject({ backend: 'reference' });
    expect(found.notes[0]).toMatch(/^WebAssembly: ./);
    const want = model.nextTokenLogits(PROMPT, new Float32Array(model.vocabSize));
    expect(found.logits.length).toBe(want.length);
    expect(Math.abs(found.logits[0] - want[0])).toBeLessThan(1e-4 * Math.max(...want.map(Math.abs)));
  });

  it('names the file of a checkpoint that is not there', async () => {
    const message = await inPage(
      `return web.fetchModel('${address}/nothing').catch(({ code, message }) => code + ' ' + message);`,
    );
    expect(message).toMatch(
      /^SGEMOE_CHECKPOINT_NOT_FOUND .*nothing\/(config\.json|model\.safetensors) can not be fetched: 404/,
    );
  });
});

describe.skipIf(skip)('demo.html', () => {
  it('trains in its worker, draws the loss, shows a text and its experts, and stops', async () => {
    await page.goto(`${address}/web/demo.html`);
    await page.waitForSelector('#start:enabled');
    expect(await page.textContent('#model')).toContain('(wasm)');
    await page.click('#start');
    // A model that has learnt nothing is at ln 256 = 5.5 nats or above.
    const figures = "document.getElementById('figures').textContent";
    await page.waitForFunction(`Number(/: ([\\d.]+) nats/.exec(${figures})?.[1]) < 4`, null, {
      timeout: 120_000,
    });
    expect(await page.locator('#strip canvas').count()).toBe(2);
    expect((await page.textContent('#sample'))?.length).toBeGreaterThan(50);
    const coloured =
      "document.getElementById('chart').getContext('2d').getImageData(0, 0, 1088, 240).data.some((v) => v > 0)";
    expect(await page.evaluate(coloured)).toBe(true);
    await page.click('#stop');
    await page.waitForSelector('#start:enabled');
    if (process.env.SGEMOE_SCREENSHOT)
      await page.screenshot({ path: process.env.SGEMOE_SCREENSHOT, fullPage: true });
    expect(problems).toEqual([]);
  });

  it('says what is wrong with a text that is too short', async () => {
    await page.goto(`${address}/web/demo.html`);
    await page.waitForSelector('#start:enabled');
    await page.fill('#text', 'short');
    await page.click('#start');
    await page.waitForSelector('#error:visible');
    expect(await page.textContent('#error')).toContain('more than 64 bytes, it has 5');
    await page.waitForSelector('#start:enabled');
  });
});
