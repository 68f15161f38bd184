import { afterAll, describe, expect, test } from 'vitest';
import type { GenerateRequest } from '../../src';
import { built } from '../helpers/built';
import { SMALL } from '../helpers/smallModel';
import { openServer, post } from './servers';

/** As Mixtral's: '▁' for a space, one in front of a text, bytes for what has no token, and no space where a text begins. */
const TOKENS = ['<unk>', '<s>', '</s>', '<0xC3>', '<0xA9>', '▁', 'h', 'i', '▁hi', '▁the', 'the'];
const [, , END, FIRST, SECOND, , , , , THE] = TOKENS.keys();
const special = ['<unk>', '<s>', '</s>'].map((content, id) => ({
  id,
  content,
  special: true,
  normalized: false,
}));
const decoders = [
  { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
  { type: 'ByteFallback' },
  { type: 'Fuse' },
  { type: 'Strip', content: ' ', start: 1, stop: 0 },
];
const tokenizer = new built.HuggingFaceTokenizer(
  {
    added_tokens: special,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    decoder: { type: 'Sequence', decoders },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(TOKENS.map((token, id) => [token, id])),
      merges: [],
    },
  },
  { chatTemplate: '{% for m in messages %}{{ m.content }}{% endfor %}' },
);
const model = built.MoETransformer.create({ ...SMALL, vocabSize: TOKENS.length, maxSeqLen: 64 }, { seed: 3 });
const engine = await built.Engine.create(model, tokenizer, { maxBatch: 4 });
const server = await openServer({ engine, model: 'm' });
afterAll(() => server.close());

interface Answer {
  choices: {
    text: string;
    message: { content: string };
    logprobs: { tokens: string[]; text_offset: number[]; content: { token: string; bytes: number[] }[] };
    sgemoe: { tokens: { text: string }[] };
  }[];
}

/** Only this token is ever chosen. */
const always = (token: number) => ({ temperature: 0, logitBias: new Map([[token, 100]]) });

describe('the text of a completion is what it adds to the prompt', () => {
  const the: GenerateRequest = { prompt: 'hi', maxTokens: 2, ...always(THE), topLogprobs: TOKENS.length };

  test('whole, streamed, and of a conversation', async () => {
    expect((await engine.generate(the)).text).toBe(' the the');
    let streamed = '';
    for await (const { text } of engine.stream(the)) streamed += text;
    expect(streamed).toBe(' the the');
    const { prompt: _, ...rest } = the;
    const messages = [{ role: 'user', content: 'hi' }];
    expect((await engine.generate({ ...rest, messages })).text).toBe(' the the');
  });

  test('the texts of tokens joined are the text', async () => {
    const { text, texts, logprobs } = await engine.generate(the);
    expect(texts).toEqual([' the', ' the']);
    expect(logprobs!.map((token) => token.text).join('')).toBe(text);
    expect(logprobs!.map(({ bytes }) => Buffer.from(bytes!).toString())).toEqual(texts);
    const there = (id: number) => logprobs!.map(({ top }) => top.find(({ token }) => token === id)!.text);
    expect([there(THE), there(FIRST)]).toEqual([texts, ['\ufffd', '\ufffd']]);
  });

  test('a stop text with a space ends it at its first place', async () => {
    expect(await engine.generate({ ...the, stop: [' the'] })).toMatchObject({
      text: '',
      finishReason: 'stop',
    });
  });

  test('a character that the prompt has begun is given out whole, and its parts have their bytes', async () => {
    const prompt = Int32Array.of(THE, FIRST);
    const whole = await engine.generate({ prompt, maxTokens: 1, ...always(SECOND), topLogprobs: 0 });
    expect(whole.logprobs![0]).toMatchObject({ text: 'é', bytes: [0xa9] });
    expect(whole.text).toBe('é');
    const half = await engine.generate({ prompt: 'hi', maxTokens: 1, ...always(FIRST), topLogprobs: 0 });
    expect(half.logprobs![0]).toMatchObject({ text: '\ufffd', bytes: [0xc3] });
    expect(half.text).toBe('\ufffd');
  });

  test('the name of a special token stands among the alternatives', async () => {
    const { logprobs } = await engine.generate({ ...the, maxTokens: 1 });
    const end = logprobs![0].top.find(({ token }) => token === END);
    expect(end).toMatchObject({ text: '</s>', bytes: [...Buffer.from('</s>')] });
  });

  test('over HTTP: tokens, their offsets and bytes, and the parts of a stream', async () => {
    const body = { model: 'm', prompt: 'hi', max_tokens: 3, temperature: 0, logit_bias: { [THE]: 100 } };
    const answer = (await (
      await post(`${server.url}/v1/completions`, { ...body, logprobs: 1, sgemoe: { routing: true } })
    ).json()) as Answer;
    const [{ text, logprobs, sgemoe }] = answer.choices;
    expect(text).toBe(' the the the');
    expect(logprobs.tokens).toEqual([' the', ' the', ' the']);
    expect(logprobs.text_offset).toEqual([0, 4, 8]);
    expect(sgemoe.tokens.map((token) => token.text)).toEqual(logprobs.tokens);

    const plain = { ...body, sgemoe: { routing: true } };
    const withoutLogprobs = await (await post(`${server.url}/v1/completions`, plain)).json();
    expect((withoutLogprobs as Answer).choices[0].sgemoe.tokens[0].text).toBe(' the');

    const streamed = await (await post(`${server.url}/v1/completions`, { ...body, stream: true })).text();
    const parts = [...streamed.matchAll(/"text":"([^"]*)"/g)].map(([, part]) => part);
    expect(parts.join('')).toBe(' the the the');

    const { prompt: _, ...rest } = body;
    const chat = { ...rest, messages: [{ role: 'user', content: 'hi' }], logprobs: true };
    const { choices } = (await (await post(`${server.url}/v1/chat/completions`, chat)).json()) as Answer;
    expect(choices[0].message.content).toBe(' the the the');
    const [first] = choices[0].logprobs.content;
    expect([first.token, Buffer.from(first.bytes).toString()]).toEqual([' the', ' the']);
  });
});
