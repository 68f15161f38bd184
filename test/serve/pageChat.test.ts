/** The chat mode of the page at '/', in a real browser. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { trainBpe } from '../../src';
import { launchBrowser, skippedWithoutBrowser } from '../helpers/browser';
import { built } from '../helpers/built';
import { byteModel, openEngine } from './engines';
import { eventually } from './servers';

const TEMPLATE = '{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}';
const CONTEXT = 2 ** 15;
const HURT = '<img src=x onerror="window.hurt = 1">';

interface Asked {
  model: string;
  messages: { role: string; content: string }[];
  [field: string]: unknown;
}

describe.skipIf(skippedWithoutBrowser(__filename))('the chat mode of the playground', () => {
  let browser: Browser;
  let server: Awaited<ReturnType<typeof built.serve>>;
  let engine: Awaited<ReturnType<typeof openEngine>>;
  let plain: typeof engine;
  const failures: string[] = [];
  const asked: Asked[] = [];

  beforeAll(async () => {
    browser = await launchBrowser();
    const trained = await trainBpe(['what a cat sat on a mat that is flat '.repeat(9)], { vocabSize: 270 });
    // Without a token that ends texts, which a random model would choose at any time.
    const json = JSON.parse(JSON.stringify(trained.toJSON()).replaceAll('<|endoftext|>', '<none>'));
    const tokenizer = built.loadTokenizer(json, { chatTemplate: TEMPLATE });
    expect(tokenizer.endOfText).toBeNull();
    const shape = { hiddenDim: 128, ffnDim: 256, nLayers: 3, vocabSize: 270, maxSeqLen: CONTEXT };
    // Long enough that an answer still runs when a busy machine's browser stops it.
    engine = await built.Engine.create(byteModel(shape), tokenizer, { contextLength: CONTEXT, maxBatch: 2 });
    plain = await openEngine();
    const models = [
      { name: 'talker', engine },
      { name: 'writer', engine: plain },
    ];
    server = await built.serve({ models, port: 0, basePath: '/llm' });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close({ graceMs: 0 });
    await Promise.all([engine?.close(), plain?.close()]);
  });

  async function open(): Promise<Page> {
    const page = await browser.newPage();
    failures.length = 0;
    asked.length = 0;
    page.on('pageerror', (error) => failures.push(error.message));
    page.on('console', (message) => failures.push(message.text()));
    page.on('request', (request) => {
      if (request.method() === 'POST') asked.push(request.postDataJSON());
    });
    await page.goto(server.url);
    await page.check('#mode-chat');
    await page.fill('#max_tokens', '6');
    return page;
  }

  async function say(page: Page, text: string): Promise<void> {
    await page.fill('#message', text);
    await page.click('#run');
    await ended(page);
  }
  const ended = (page: Page) => page.waitForSelector('#run:enabled');
  const turns = (page: Page) => page.$$eval('.turn-text', (all) => all.map(({ textContent }) => textContent));

  test('sends the conversation with the system text, and shows the experts of the answer', async () => {
    const page = await open();
    await page.click('#chat-setting summary');
    await page.fill('#system', 'Be flat.');
    await say(page, HURT);
    const [, answer] = await turns(page);
    await say(page, 'And then?');
    const messages = [
      { role: 'system', content: 'Be flat.' },
      { role: 'user', content: HURT },
      { role: 'assistant', content: answer },
      { role: 'user', content: 'And then?' },
    ];
    expect(asked[1]).toMatchObject({ model: 'talker', messages, max_tokens: 6 });
    expect(await turns(page)).toHaveLength(4);
    expect(await page.evaluate('window.hurt')).toBeUndefined();
    expect(await page.$$eval('.name', (names) => names.length)).toBe(6);
    await page.hover('.turn:last-child .piece');
    expect(await page.textContent('.details h3')).toMatch(/^Token \d: /);
    expect(await page.inputValue('#message')).toBe('');
    expect(failures).toEqual([]);
    await page.close();
  });

  test('an answer is made anew, a turn is edited with what follows, and all is forgotten', async () => {
    const page = await open();
    await say(page, 'one');
    await say(page, 'two');
    await page.click('#retry');
    await ended(page);
    expect(asked[2].messages).toEqual(asked[1].messages);
    await page.click('.turn.user >> nth=0 >> button');
    expect(await page.inputValue('#message')).toBe('one');
    expect(await page.$$eval('.turn.edited', (all) => all.length)).toBe(4);
    await page.click('#keep');
    expect(await page.$$eval('.turn.edited', (all) => all.length)).toBe(0);
    await page.click('.turn.user >> nth=0 >> button');
    await say(page, 'three');
    expect(asked[3].messages).toEqual([{ role: 'user', content: 'three' }]);
    expect(await turns(page)).toHaveLength(2);
    await page.click('#clear');
    expect(await turns(page)).toEqual([]);
    expect(await page.isDisabled('#retry')).toBe(true);
    await page.close();
  });

  test('an answer is stopped, and what was written stays', async () => {
    const page = await open();
    await page.fill('#max_tokens', '32000');
    await page.fill('#message', 'long');
    const before = engine.metrics().requests.aborted;
    await page.click('#run');
    await page.waitForSelector('.name >> nth=2', { state: 'attached' });
    await page.keyboard.press('Escape');
    await ended(page);
    await eventually(() => engine.metrics().requests.aborted === before + 1);
    expect(await turns(page)).toHaveLength(2);
    expect(await page.textContent('#figures')).toMatch(/stopped by you$/);
    await page.close();
  });

  test('a refused message says why, and can be sent again', async () => {
    const page = await open();
    await page.fill('#top_p', '7');
    await say(page, 'one');
    expect(await page.textContent('[role=alert]')).toMatch(/'top_p' must be/);
    expect(await turns(page)).toEqual(['one']);
    await page.fill('#top_p', '');
    await page.click('#retry');
    await ended(page);
    expect(await page.isHidden('#error')).toBe(true);
    expect(await turns(page)).toHaveLength(2);
    await page.close();
  });

  test('calls of tools are shown as such, and sent back', async () => {
    const page = await open();
    const call = (name: string | undefined, json: string) => ({
      index: 0,
      function: { ...(name && { name }), arguments: json },
    });
    const deltas = [
      { tool_calls: [call('weather', '{"city":')] },
      { tool_calls: [call(undefined, '"Bonn"}')] },
    ];
    const events = deltas.map((delta) => ({ choices: [{ index: 0, delta, finish_reason: null }] }));
    const body = [...events.map((event) => JSON.stringify(event)), '[DONE]'].map(
      (data) => `data: ${data}\n\n`,
    );
    await page.route('**/v1/chat/completions', (route) =>
      route.fulfill({ contentType: 'text/event-stream', body: body.join('') }),
    );
    await page.click('#chat-setting summary');
    const tools = [{ type: 'function', function: { name: 'weather' } }];
    await page.fill('#tools', '[{');
    await say(page, 'Rain?');
    expect(await page.textContent('[role=alert]')).toBe('Tools must be JSON.');
    await page.fill('#tools', JSON.stringify(tools));
    await page.click('#run');
    await ended(page);
    expect(asked[0].tools).toEqual(tools);
    expect(await page.textContent('.call code')).toBe('weather');
    expect(await page.textContent('.call pre')).toBe('{\n  "city": "Bonn"\n}');
    await say(page, 'Thanks');
    expect(asked[1].messages[1]).toMatchObject({
      role: 'assistant',
      tool_calls: [{ type: 'function', function: { name: 'weather', arguments: '{"city":"Bonn"}' } }],
    });
    await page.close();
  });

  test('an answer by a schema is told as such', async () => {
    const page = await open();
    await page.click('#chat-setting summary');
    await page.fill('#schema', '{ "enum": [1, 2] }');
    await say(page, 'one or two');
    expect(await page.textContent('.turn.assistant .note')).toBe('JSON by the schema');
    expect((await turns(page))[1]).toMatch(/^[12]$/);
    await page.close();
  });

  test('the request is copied as a command that runs, and as a program', async () => {
    const page = await open();
    await page.fill('#message', "it's $HOME");
    await page.click('#copy-curl');
    await page.waitForSelector('#copied:not([hidden])');
    const command = await page.inputValue('#code');
    const { stdout } = await promisify(execFile)('sh', ['-c', command.replace(/^curl/, 'curl -s')]);
    const answer = JSON.parse(stdout);
    expect(answer.choices[0].message.role).toBe('assistant');
    expect(command).toContain(`"content": "it'\\''s $HOME"`);
    await page.click('#copy-program');
    const program = await page.inputValue('#code');
    expect(program).toContain(`baseURL: "${server.url}/v1"`);
    expect(program).toContain('client.chat.completions.create({\n  "model": "talker"');
    await page.close();
  });

  test('the mode goes with the model: one without a template only completes', async () => {
    const page = await open();
    await page.selectOption('#models', 'writer');
    await page.waitForSelector('#modes', { state: 'hidden' });
    expect(await page.isVisible('#prompt')).toBe(true);
    await page.fill('#prompt', 'a');
    await page.click('#run');
    await ended(page);
    expect(asked[0]).toMatchObject({ model: 'writer', prompt: 'a' });
    await page.selectOption('#models', 'talker');
    await page.waitForSelector('#modes', { state: 'visible' });
    expect(failures).toEqual([]);
    await page.close();
  });
});
