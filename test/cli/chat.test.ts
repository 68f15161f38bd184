import { EventEmitter } from 'node:events';
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadTokenizer, MoETransformer, trainBpe } from '../../src';
import { SMALL } from '../helpers/smallModel';
import { type RunOptions, sgemoe, temporaryFolder } from './run';

const { main: program } = require(resolve(__dirname, '../../dist/cli/program.js'));
const folder = temporaryFolder();
const dir = join(folder, 'model');
afterAll(() => rmSync(folder, { recursive: true }));

/** It writes each message's first character and length, so that the prompt tells which messages a model saw. */
const TEMPLATE =
  "{% for m in messages %}{% if m.content == 'refused' %}{{ raise_exception('not that') }}{% endif %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}";

beforeAll(async () => {
  const trained = await trainBpe(['what a cat sat on a mat that is flat '.repeat(9)], { vocabSize: 270 });
  const tokenizer = loadTokenizer(trained.toJSON(), { chatTemplate: TEMPLATE });
  const model = MoETransformer.create({ ...SMALL, vocabSize: 270, maxSeqLen: 256 }, { seed: 3 });
  await model.save(dir, tokenizer.files());
});

const chat = (lines: readonly string[], options: Partial<RunOptions> = {}, ...flags: string[]) =>
  sgemoe(['chat', dir, '--temperature', '0', '--max-tokens', '6', ...flags], {
    ...options,
    program,
    stdin: lines.map((line) => `${line}\n`),
  });
/** The tokens of context that the answers' figures tell. */
const contexts = (stderr: string) =>
  [...stderr.matchAll(/; ([\d,]+) of 256 tokens/g)].map((match) => Number(match[1]));

it('answers each line, remembers the conversation, and tells the speed', async () => {
  const { code, stdout, stderr } = await chat(['a cat', 'a mat']);
  expect(code).toBe(0);
  const [first, second] = contexts(stderr);
  expect(second).toBeGreaterThan(first);
  expect(stderr.match(/^\[6 tokens, [\d.k]+ tokens\/s; /gm)).toHaveLength(2);
  // An empty line is no message.
  expect((await chat(['a cat', '', 'a mat'])).stdout).toBe(stdout);
});

it('/reset makes the next answer that of a new conversation, /system one of another', async () => {
  const alone = await chat(['a mat']);
  const reset = await chat(['a cat', '/reset', 'a mat']);
  expect(reset.stdout.endsWith(alone.stdout)).toBe(true);
  expect(contexts(reset.stderr)[1]).toBe(contexts(alone.stderr)[0]);
  const system = await chat(['a cat', '/system a flat cat', 'a mat']);
  const flag = await chat(['a mat'], {}, '--system', 'a flat cat');
  expect(contexts(system.stderr)[1]).toBe(contexts(flag.stderr)[0]);
  expect(contexts(flag.stderr)[0]).toBeGreaterThan(contexts(alone.stderr)[0]);
  const without = await chat(['/system', 'a mat'], {}, '--system', 'a flat cat');
  expect(without.stdout).toBe(alone.stdout);
});

it('/exit ends it before further lines; a command that is none is told and answers nothing', async () => {
  const { code, stdout, stderr } = await chat(['/what', '/exit', 'a cat']);
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  expect(stderr).toMatch(/\/what is no command: \/reset/);
});

it('the oldest messages are left out of a full context, and a message that alone is too long is refused', async () => {
  const long = 'x '.repeat(60);
  const { code, stderr } = await chat([long, long, 'x'.repeat(400), 'a cat']);
  expect(code).toBe(0);
  expect(stderr).toMatch(/oldest messages are left out/);
  expect(stderr).toMatch(/message is too long/);
  expect(contexts(stderr)).toHaveLength(3);
});

it('Ctrl-C ends the answer and not the conversation, which remembers what was written', async () => {
  const signals = new EventEmitter();
  let interrupted = false;
  const onStdout = (text: string) => {
    if (interrupted || text === '') return;
    interrupted = true;
    signals.emit('SIGINT');
    signals.emit('SIGINT'); // the echo of a package runner
  };
  const { code, stderr } = await chat(['a cat', 'a mat'], { signals, onStdout }, '--max-tokens', '100');
  expect(code).toBe(0);
  expect(stderr.match(/; stopped\]/g)).toHaveLength(1);
  expect(contexts(stderr)).toHaveLength(2);
  expect(signals.eventNames()).toEqual([]);
});

it('a second Ctrl-C at the prompt leaves, and SIGTERM ends at once with the code of an interrupt', async () => {
  for (const [name, wanted] of [
    ['SIGINT', 0],
    ['SIGTERM', 130],
  ] as const) {
    const signals = new EventEmitter();
    let end = () => {};
    const never = new Promise<void>((done) => {
      end = done;
    });
    const stdin = Object.assign(
      (async function* () {
        yield '/reset\n';
        await never;
      })(),
      { destroy: () => end() },
    );
    const running = sgemoe(['chat', dir], { program, signals, stdin, isTTY: true });
    while (signals.listenerCount('SIGINT') === 0) {
      await Promise.race([
        running.then(() => expect.fail('it ended')),
        new Promise((done) => setTimeout(done, 10)),
      ]);
    }
    signals.emit(name);
    if (name === 'SIGINT') {
      await new Promise((done) => setTimeout(done, 600));
      expect(signals.listenerCount('SIGINT')).toBe(1);
      signals.emit(name);
    }
    expect((await running).code).toBe(wanted);
  }
});

it('a template that refuses the messages ends with its words', async () => {
  const { code, stderr } = await chat(['refused']);
  expect(code).toBe(1);
  expect(stderr).toMatch(/not that/);
});
