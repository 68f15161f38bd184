/** dist/web in Chromium: a folder of static files, without and with the headers that cross-origin isolation asks for. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
import { expectRelative } from '../helpers/close';
import { hfDir, loadHfFixture } from '../helpers/hfFixture';

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

/** Headers that let a page share memory with its workers, and so compute on several threads. */
const ISOLATION = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};
const TOKENIZERS = join(ROOT, 'test', 'fixtures', 'tokenizers', 'tokenizers.json');

let folder: string;
const servers: Server[] = [];
let address: string;
let isolatedAddress: string;
let withoutBlobsAddress: string;
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
  mkdirSync(join(folder, 'damaged'));
  for (const name of ['kernels.wasm.gz', 'kernels-relaxed.wasm.gz'])
    writeFileSync(join(folder, 'damaged', name), 'x');
  writeFileSync(join(folder, 'blank.html'), '<!doctype html><title>blank</title>');
  cpSync(hfDir('qwen3_moe'), join(folder, 'qwen3_moe'), { recursive: true });
  const { models, shapes } = JSON.parse(readFileSync(TOKENIZERS, 'utf8'));
  const { file } = shapes.Qwen;
  writeFileSync(
    join(folder, 'qwen3_moe', 'tokenizer.json'),
    JSON.stringify({ ...file, model: models[file.model] }),
  );
  address = await listen({});
  isolatedAddress = await listen(ISOLATION);
  withoutBlobsAddress = await listen({ ...ISOLATION, 'content-security-policy': "worker-src 'self'" });
  browser = await launchBrowser();
  page = await browser.newPage();
  page.on('pageerror', (error) => problems.push(error.message));
});

afterAll(async () => {
  if (skip) return;
  await browser?.close();
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A server of the folder's files, with these headers. */
async function listen(headers: Record<string, string>): Promise<string> {
  const server = createServer((request, response) => {
    const file = join(folder, normalize(new URL(request.url ?? '/', 'http://x').pathname));
    if (!existsSync(file) || extname(file) === '') {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { ...headers, 'content-type': type }).end(readFileSync(file));
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await new Promise((done) => server.once('listening', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/**
 * Runs a script in a new, empty page and returns its result; `web` is the bundle. The script is text, since the test runner
 * rewrites imports.
 */
async function inPage(script: string, from = address): Promise<unknown> {
  await page.goto(`${from}/blank.html`);
  return page.evaluate(`(async () => { const web = await import('/web/index.js'); ${script} })()`);
}

describe.skipIf(skip)('the bundle for browsers', () => {
  it('imports nothing', () => {
    const text = readFileSync(join(folder, 'web', 'index.js'), 'utf8');
    expect(text).not.toMatch(/\bfrom\s*["']|\bimport\s*["'({](?!meta)|\brequire\(|node:/);
  });

  it('takes at most 400 KB gzipped with its kernels', () => {
    const bytes = ['index.js', 'kernels.wasm.gz', 'kernels-relaxed.wasm.gz'].map(
      (name) => gzipSync(readFileSync(join(folder, 'web', name))).length,
    );
    expect(bytes.reduce((sum, each) => sum + each)).toBeLessThan(400 * 1024);
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
    expect(found).toMatchObject({ backend: 'wasm', instructionSet: 'relaxed-simd', text: [104, 195, 164] });
    expect(found.written).toEqual(generate(model, PROMPT, 5));
    const want = model.nextTokenLogits(PROMPT, new Float32Array(model.vocabSize));
    // float32 through some ten sums of at most 256 products, against the reference's float64 sums.
    const bound = 10 * Math.sqrt(256) * 2 ** -24 * Math.max(...want.map(Math.abs));
    expect(Math.max(...want.map((value, i) => Math.abs(found.logits[i] - value)))).toBeLessThan(bound);
  });

  it('computes the logits of a checkpoint by transformers, and encodes with its tokenizer', async () => {
    const { expected } = await loadHfFixture('qwen3_moe');
    const { shape, data: ids } = expected.get('input_ids')!;
    const { texts, shapes } = JSON.parse(readFileSync(TOKENIZERS, 'utf8'));
    const found = (await inPage(`
      const { model, tokenizer } = await web.fetchModel('${address}/qwen3_moe');
      const ids = web.Tensor.fromIds(${JSON.stringify(Array.from(ids))}, ${JSON.stringify(shape)});
      const encoded = ${JSON.stringify(texts)}.map((text) => [...tokenizer.encode(text)]);
      return { logits: [...model.forward(ids).data], encoded };
    `)) as { logits: number[]; encoded: number[][] };
    // The tolerance of test/hf/oracle.test.ts, which says why.
    expectRelative('logits', found.logits, expected.get('logits')!.data, 2e-5);
    expect(found.encoded).toEqual(shapes.Qwen.wanted.map(([ids]: [number[]]) => ids));
  });

  it('computes on as many threads as asked for in a page that is cross-origin isolated, with the same bits', async () => {
    const script = `
      const { threads } = await web.load(undefined, { threads: 3 });
      const model = web.MoETransformer.create({ ...web.ModelConfig.tiny(), hiddenDim: 256, ffnDim: 512 }, { seed: 5 });
      const ids = web.Tensor.fromIds(Array.from({ length: 128 }, (_, i) => (i * 7) % model.vocabSize), [1, 128]);
      const trainer = new web.Trainer(model, {});
      return { threads, losses: [0, 1, 2, 3].map(() => trainer.trainStep(ids, ids).loss) };
    `;
    const alone = (await inPage(script)) as { threads: number; losses: number[] };
    const helped = (await inPage(script, isolatedAddress)) as typeof alone;
    expect(alone.threads).toBe(1);
    expect(helped.threads).toBe(3);
    expect(helped.losses).toEqual(alone.losses);
  });

  it('computes alone in an isolated page whose policy lets no thread start', async () => {
    const script =
      'const { backend, threads } = await web.load(undefined, { threads: 3 }); return { backend, threads };';
    expect(await inPage(script, withoutBlobsAddress)).toEqual({ backend: 'wasm', threads: 1 });
  });

  it('refuses a number of threads that is none', async () => {
    const message = await inPage(
      "return web.load(undefined, { threads: 0 }).catch((error) => error.name + ': ' + error.message);",
    );
    expect(message).toBe('RangeError: threads must be an integer in 1..256, got 0');
  });

  it('refuses a model that 32-bit addresses do not reach before anything is allocated, in a sentence', async () => {
    const message = (await inPage(`
      await web.load();
      const config = { ...web.ModelConfig.tiny(), vocabSize: 1048576, hiddenDim: 1024 };
      try { web.MoETransformer.create(config); } catch (error) { return error.code + ' ' + error.message; }
    `)) as string;
    expect(message).toMatch(/^SGEMOE_MEMORY .*(GiB|GB)/);
  });

  it('computes with the reference backend where the kernels do not compile, and says why', async () => {
    const found = (await inPage(`
      const { backend, notes } = await web.load('${address}/damaged/');
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

describe.skipIf(skip).each([
  ['alone', () => address],
  ['isolated, on several threads', () => isolatedAddress],
])('demo.html, %s', (_, addressOf) => {
  it('trains in its worker, draws the loss, shows a text and its experts, and stops', async () => {
    await page.goto(`${addressOf()}/web/demo.html`);
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
    await page.goto(`${addressOf()}/web/demo.html`);
    await page.waitForSelector('#start:enabled');
    await page.fill('#text', 'short');
    await page.click('#start');
    await page.waitForSelector('#error:visible');
    expect(await page.textContent('#error')).toContain('more than 64 bytes, it has 5');
    await page.waitForSelector('#start:enabled');
  });
});
