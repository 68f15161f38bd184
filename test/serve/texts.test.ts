import { describe, expect, test } from 'vitest';
import type { Engine, EngineOptions } from '../../src';
import { built } from '../helpers/built';
import { Engine as BuiltEngine, byteModel, sleep } from './engines';

const { HuggingFaceTokenizer } = built;
const coded = (code: string) => expect.objectContaining({ code });

/** A tokenizer of bytes, with a chat template and a pattern of words. */
function tokenizerWith(chatTemplate: string, pattern = '\\S+|\\s+', merges: [string, string][] = []) {
  const bytes = Array.from({ length: 256 }, (_, byte) => [byteCharacter(byte), byte] as const);
  const vocab: Record<string, number> = Object.fromEntries(bytes.slice(0, 256 - merges.length));
  // Merged tokens take the places of the last bytes, which no text here has.
  for (const [i, [left, right]] of merges.entries()) vocab[left + right] = 256 - merges.length + i;
  const pre_tokenizer = {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  };
  const decoder = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const model = { type: 'BPE', vocab, merges };
  return new HuggingFaceTokenizer({ model, pre_tokenizer, decoder, added_tokens: [] }, { chatTemplate });
}

function byteCharacter(byte: number): string {
  const isShown = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  if (isShown) return String.fromCodePoint(byte);
  const hidden = Array.from({ length: 256 }, (_, b) => b).filter(
    (b) => !((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae),
  );
  return String.fromCodePoint(256 + hidden.indexOf(byte));
}

async function withTemplate(
  template: string,
  run: (engine: Engine) => Promise<void>,
  options: EngineOptions = {},
  pattern?: string,
) {
  const model = byteModel({ maxSeqLen: 128 });
  const engine = await BuiltEngine.create(model, tokenizerWith(template, pattern), options);
  try {
    await run(engine);
  } finally {
    await engine.close();
  }
}

/** Messages by which the templates below choose what they do. */
const asks = (content: string) => ({ messages: [{ role: 'user', content }], maxTokens: 2 });
const WHEN_BAD = (bad: string) => `{% if messages[0].content == 'bad' %}${bad}{% else %}hi{% endif %}`;

describe('a chat template that goes on for ever', () => {
  const nested = '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}';
  test.each([
    ['a range of a billion', '{% for i in range(1000000000) %}x{% endfor %}'],
    ['nested ranges', nested],
    ['a join of a huge range', "{{ range(1000000000) | join(',') }}"],
    [
      'a text of gigabytes',
      `{% set ns = namespace(x='ab') %}${'{% set ns.x = ns.x ~ ns.x %}'.repeat(40)}{{ ns.x }}`,
    ],
  ])('ends in an error, as %s does, and the engine goes on', (_what, bad) =>
    withTemplate(
      WHEN_BAD(bad),
      async (engine) => {
        await expect(engine.generate(asks('bad'))).rejects.toEqual(coded('SGEMOE_CHAT_TEMPLATE'));
        expect((await engine.generate(asks('good'))).tokens).toHaveLength(2);
      },
      { templateTimeoutMs: 300 },
    ),
  );

  test('lets a running stream go on', () =>
    withTemplate(
      WHEN_BAD(nested),
      async (engine) => {
        const stream = engine.stream({ prompt: [97], maxTokens: 100, seed: 1n });
        await stream.next();
        const bad = engine.generate(asks('bad')).catch((error: unknown) => error);
        expect(await Promise.race([bad, drained(stream)])).toBe('drained');
        await engine.close();
        expect(await bad).toEqual(coded('SGEMOE_ENGINE_CLOSED'));
      },
      { templateTimeoutMs: 600_000 },
    ));

  test('that is given up does not keep the engine from closing', () =>
    withTemplate(
      WHEN_BAD(nested),
      async (engine) => {
        const abort = new AbortController();
        const bad = engine
          .generate({ ...asks('bad'), signal: abort.signal })
          .catch((error: unknown) => error);
        await sleep(50);
        abort.abort();
        expect(await bad).toMatchObject({ name: 'AbortError' });
        expect(engine.metrics()).toMatchObject({ waiting: 0, running: 0 });
      },
      { templateTimeoutMs: 600_000 },
    ));

  test('that needs too much memory ends its request alone', () => {
    const doubled = `{% set ns = namespace(s='ab', x=[]) %}${'{% set ns.s = ns.s ~ ns.s %}'.repeat(22)}`;
    const kept = '{% for i in range(1000) %}{% set ns.x = ns.x + [(ns.s ~ i) | upper] %}{% endfor %}';
    return withTemplate(
      WHEN_BAD(doubled + kept),
      async (engine) => {
        await expect(engine.generate(asks('bad'))).rejects.toEqual(coded('SGEMOE_TEXT_LIMIT'));
        expect((await engine.generate(asks('good'))).tokens).toHaveLength(2);
      },
      { templateTimeoutMs: 60_000 },
    );
  });
});

describe('a regular expression of a tokenizer that goes on for ever', () => {
  test('ends in an error, and the engine goes on', () =>
    withTemplate(
      'hi',
      async (engine) => {
        const evil = { prompt: `${'a'.repeat(40)}!`, maxTokens: 2 };
        await expect(engine.generate(evil)).rejects.toEqual(coded('SGEMOE_TEXT_LIMIT'));
        await expect(engine.tokenize(evil.prompt)).rejects.toEqual(coded('SGEMOE_TEXT_LIMIT'));
        await expect(engine.embed([evil.prompt])).rejects.toEqual(coded('SGEMOE_TEXT_LIMIT'));
        expect((await engine.generate({ prompt: 'b', maxTokens: 2 })).tokens).toHaveLength(2);
      },
      { tokenizeTimeoutMs: 200 },
      '(?:a+)+b|[^a]',
    ));
});

describe('a constraint', () => {
  const many = Array.from({ length: 20_000 }, (_, i) => `choice ${i}`);
  test('is compiled within the time of templates, and the engine goes on', () =>
    withTemplate(
      'hi',
      async (engine) => {
        const slow = engine.generate({ prompt: 'a', choice: many });
        await expect(slow).rejects.toEqual(coded('SGEMOE_CONSTRAINT_LIMIT'));
        expect((await engine.generate({ prompt: 'b', maxTokens: 2 })).tokens).toHaveLength(2);
      },
      { templateTimeoutMs: 1 },
    ));

  test('of a prompt of ids is followed, too', () =>
    withTemplate('hi', async (engine) => {
      const answer = await engine.generate({ prompt: [97], choice: ['yes', 'no'], maxTokens: 9 });
      expect(['yes', 'no']).toContain(answer.text);
    }));
});

describe('a text that can not fit', () => {
  test('is refused by its bytes, before it is tokenized', () =>
    withTemplate(
      '{{ messages[0].content }}',
      async (engine) => {
        // The pattern would need for ever.
        const text = `${'a'.repeat(10_000)}!`;
        for (const refused of [
          engine.generate({ prompt: text }),
          engine.embed(['a', text]),
          engine.generate({ messages: [{ role: 'user', content: text }] }),
        ]) {
          await expect(refused).rejects.toEqual(coded('SGEMOE_CONTEXT_FULL'));
        }
      },
      {},
      '(?:a+)+b|[^a]',
    ));
});

test('texts of one client do not keep those of another waiting: clients take turns', () =>
  withTemplate('hi', async (engine) => {
    const order: string[] = [];
    const read = async (name: string) => {
      await engine.tokenize(`text ${name}`, { client: name[0] });
      order.push(name);
    };
    // The first one runs while the others come.
    await Promise.all(['a0', 'a1', 'a2', 'a3', 'b0', 'b1'].map(read));
    expect(order).toEqual(['a0', 'a1', 'b0', 'a2', 'b1', 'a3']);
  }));

function drained(stream: AsyncIterable<unknown>): Promise<string> {
  return (async () => {
    for await (const _ of stream);
    return 'drained';
  })();
}
