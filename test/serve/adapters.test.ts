/** Adapters of an engine: chosen by request, decoded together, added and removed while it runs. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateRequest, LoraOptions, ModelConfigOptions } from '../../src';
import { built } from '../helpers/built';
import { expectRelative } from '../helpers/close';
import { ByteTokenizer, byteModel, Engine, Sampler, workersStarted } from './engines';
import { errorOf, post } from './servers';

const { saveLora, loadLora } = built;
const TARGETS = { targets: ['all', 'lm_head'] };

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sgemoe-adapters-'));
  await saveAdapter('a', { rank: 3, seed: 1 });
  await saveAdapter('b', { rank: 5, alpha: 4, seed: 2 });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const folder = (name: string) => join(dir, name);

/** Saves an adapter that changes much. */
async function saveAdapter(name: string, options: LoraOptions, sizes: Partial<ModelConfigOptions> = {}) {
  const model = byteModel(sizes);
  const { store } = model.addLora({ ...TARGETS, ...options });
  for (const [i, { data }] of store.parameters.entries()) {
    for (let j = 0; j < data.length; j++) data[j] += 0.3 * Math.sin(j * (i + 2) + (options.seed ?? 0));
  }
  await saveLora(folder(name), model);
}

/** What the library writes, greedily, without an engine. */
async function written(adapter: string | null, prompt: string, maxTokens: number): Promise<number[]> {
  const model = byteModel();
  if (adapter !== null) await loadLora(folder(adapter), model);
  const ids = [...new TextEncoder().encode(prompt)];
  const sampler = new Sampler({ temperature: 0 }, { vocabSize: 256 });
  return model.generate(ids, ids.length + maxTokens, sampler).slice(ids.length);
}

const greedy = (prompt: string, adapter?: string): GenerateRequest => {
  return { prompt, adapter, maxTokens: 10, temperature: 0 };
};

const refused = (code: string, call: Promise<unknown>) => expect(call).rejects.toMatchObject({ code });

describe.each([1, 2])('with %i workers', (workers) => {
  it('requests with and without adapters that run together are answered as alone', async () => {
    const engine = await Engine.create(byteModel(), new ByteTokenizer(), {
      maxBatch: 6,
      workers,
      adapters: { first: folder('a') },
    });
    await engine.addAdapter('second', folder('b'));
    expect(engine.adapters).toEqual(['first', 'second']);
    const folders = { first: 'a', second: 'b' } as const;
    const asked = [undefined, 'first', 'second', 'first', undefined, 'second'] as const;
    const prompts = ['one', 'two and a longer one', 'one', 'one', 'three', 'x'];
    const got = await Promise.all(asked.map((adapter, i) => engine.generate(greedy(prompts[i], adapter))));
    for (const [i, adapter] of asked.entries()) {
      const want = await written(adapter === undefined ? null : folders[adapter], prompts[i], 10);
      expect(got[i].tokens, `${prompts[i]} by ${adapter}`).toEqual(want);
    }
    expect(new Set([0, 2, 3].map((i) => got[i].text)).size).toBe(3);
    await engine.close();
  });
});

describe('an engine', () => {
  let engine: Awaited<ReturnType<typeof Engine.create>>;
  beforeAll(async () => {
    const adapters = { a: folder('a'), b: folder('b') };
    engine = await Engine.create(byteModel(), new ByteTokenizer(), { maxBatch: 4, adapters });
  });
  afterAll(() => engine.close());

  it('reuses what the same adapter has computed, and nothing of another or of the base', async () => {
    const prompt = 'a beginning that is long enough to be waited for';
    for (const adapter of [undefined, 'a', 'b']) {
      const first = await engine.generate(greedy(prompt, adapter));
      expect(first.usage.reusedTokens, `${adapter}`).toBe(0);
      expect(first.tokens).toEqual(await written(adapter ?? null, prompt, 10));
    }
    for (const adapter of ['b', undefined, 'a']) {
      const again = await engine.generate(greedy(prompt, adapter));
      expect(again.usage.reusedTokens, `${adapter}`).toBe(prompt.length - 1);
      expect(again.tokens).toEqual(await written(adapter ?? null, prompt, 10));
    }
    // None waits for another's prompt, whose keys it could not use.
    const other = 'yet another beginning of this length, of all of them at once';
    const both = await Promise.all([undefined, 'a'].map((each) => engine.generate(greedy(other, each))));
    expect(both.map(({ usage }) => usage.reusedTokens)).toEqual([0, 0]);
    expect(both[1].tokens).toEqual(await written('a', other, 10));
  });

  it('embeds texts with an adapter', async () => {
    const texts = ['some text', 'more'];
    const plain = await engine.embed(texts);
    const { embeddings } = await engine.embed(texts, { adapter: 'a', pooling: 'last' });
    const model = byteModel();
    await loadLora(folder('a'), model);
    const own = await Engine.create(model, new ByteTokenizer());
    const want = await own.embed(texts, { pooling: 'last' });
    await own.close();
    embeddings.forEach((embedding, i) => {
      expectRelative(texts[i], embedding, want.embeddings[i], 1e-4);
    });
    expect(() => expectRelative('', embeddings[0], plain.embeddings[0], 0.01)).toThrow();
  });

  it('refuses names that it does not have, or has already', async () => {
    expect(() => engine.stream(greedy('x', 'other'))).toThrow(/no adapter 'other'/);
    await refused('SGEMOE_ADAPTER_NOT_FOUND', engine.generate(greedy('x', 'other')));
    await refused('SGEMOE_ADAPTER_NOT_FOUND', engine.embed(['x'], { adapter: '__proto__' }));
    await refused('SGEMOE_ADAPTER_NOT_FOUND', engine.removeAdapter('other'));
    await expect(engine.generate({ prompt: 'x', adapter: 3 } as never)).rejects.toThrow(TypeError);
    await expect(engine.addAdapter('a', folder('b'))).rejects.toThrow(RangeError);
    await expect(engine.addAdapter('', folder('b'))).rejects.toThrow(RangeError);
    const twice = [folder('a'), folder('b')].map((each) => engine.addAdapter('same', each));
    const [first, second] = await Promise.allSettled(twice);
    expect([first.status, second.status]).toEqual(['fulfilled', 'rejected']);
    await engine.removeAdapter('same');
  });

  it('refuses adapters that do not fit its model, and goes on', async () => {
    await saveAdapter('wide', {}, { hiddenDim: 32 });
    await saveAdapter('deep', {}, { nLayers: 3 });
    await saveAdapter(
      'dense',
      {},
      { nExperts: 0, topKExperts: 0, ffnDim: 0, denseLayers: [0, 1], denseFfnDim: 28 },
    );
    await refused('SGEMOE_CHECKPOINT_SHAPE', engine.addAdapter('x', folder('wide')));
    await refused('SGEMOE_CHECKPOINT_EXTRA_TENSOR', engine.addAdapter('x', folder('deep')));
    await refused('SGEMOE_CHECKPOINT_EXTRA_TENSOR', engine.addAdapter('x', folder('dense')));
    await refused('SGEMOE_CHECKPOINT_NOT_FOUND', engine.addAdapter('x', folder('nowhere')));
    expect(engine.adapters).toEqual(['a', 'b']);
    expect((await engine.generate(greedy('x', 'a'))).tokens).toEqual(await written('a', 'x', 10));
  });

  it('lets requests end before an adapter goes; one of the same name has nothing of it', async () => {
    await engine.addAdapter('c', folder('a'));
    const prompt = 'for an adapter that goes';
    const long = engine.stream({ ...greedy(prompt, 'c'), maxTokens: 90, ignoreEos: true });
    let tokensOfLong = (await long.next()).value!.tokens.length;
    let gone = false;
    const removed = engine.removeAdapter('c').then(() => {
      gone = true;
    });
    expect(engine.adapters).toEqual(['a', 'b']);
    expect(() => engine.stream(greedy('x', 'c'))).toThrow(/no adapter 'c'/);
    // A step beside the ninety.
    await engine.generate({ ...greedy('x', 'a'), maxTokens: 1 });
    expect(gone).toBe(false);
    for await (const chunk of long) tokensOfLong += chunk.tokens.length;
    expect(tokensOfLong).toBe(90);
    await removed;
    await engine.addAdapter('c', folder('b'));
    const { tokens, usage } = await engine.generate(greedy(prompt, 'c'));
    expect(usage.reusedTokens).toBe(0);
    expect(tokens).toEqual(await written('b', prompt, 10));
    const cut = engine.stream({ ...greedy('x', 'c'), maxTokens: 100 });
    await cut.next();
    const left = engine.removeAdapter('c');
    await cut.return!();
    await left;
    expect((await engine.generate(greedy('x'))).tokens).toEqual(await written(null, 'x', 10));
  });
});

it('a worker that takes the place of a dead one has the adapters', async () => {
  const started = workersStarted();
  const adapters = { a: folder('a') };
  const engine = await Engine.create(byteModel(), null, { adapters });
  await engine.addAdapter('b', folder('b'));
  await engine.removeAdapter('a');
  await started[started.length - 1].terminate();
  while (engine.metrics().workers.replaced === 0) await new Promise((done) => setTimeout(done, 5));
  const ids = new TextEncoder().encode('x');
  const { tokens } = await engine.generate({ ...greedy('x', 'b'), prompt: ids });
  expect(tokens).toEqual(await written('b', 'x', 10));
  await engine.close();
});

it('a model with adapters of its own is served with them, and takes no others', async () => {
  const model = byteModel();
  await loadLora(folder('a'), model);
  const engine = await Engine.create(model, new ByteTokenizer());
  expect((await engine.generate(greedy('x'))).tokens).toEqual(await written('a', 'x', 10));
  await expect(engine.addAdapter('b', folder('b'))).rejects.toThrow(TypeError);
  await engine.close();
  await expect(engine.addAdapter('b', folder('b'))).rejects.toThrow();
});

describe('a server', () => {
  let engine: Awaited<ReturnType<typeof Engine.create>>;
  let server: Awaited<ReturnType<typeof built.serve>>;
  beforeAll(async () => {
    engine = await Engine.create(byteModel(), new ByteTokenizer(), { adapters: { a: folder('a') } });
    const models = [{ name: 'org/book:Q4', engine }];
    server = await built.serve({ models, aliases: { book: 'org/book:Q4', tuned: 'org/book:Q4:a' }, port: 0 });
  });
  afterAll(async () => {
    await server.close({ graceMs: 0 });
    await engine.close();
  });

  const ask = async (path: string, fields: object) => post(`${server.url}/v1/${path}`, fields);

  it("answers by an adapter's name behind that of its model", async () => {
    const sampling = { max_tokens: 10, temperature: 0, prompt: 'one' };
    const want = new ByteTokenizer().decode(await written('a', 'one', 10));
    const prints = new Set<string>();
    for (const model of ['org/book:Q4:a', 'book:a', 'tuned']) {
      const answer = (await (await ask('completions', { ...sampling, model })).json()) as {
        model: string;
        system_fingerprint: string;
        choices: { text: string }[];
      };
      expect([answer.model, answer.choices[0].text]).toEqual(['org/book:Q4:a', want]);
      prints.add(answer.system_fingerprint);
    }
    expect([...prints]).toEqual([engine.fingerprintOf('a')]);
    expect(prints.has(engine.fingerprint)).toBe(false);
    const messages = [{ role: 'user', content: 'one' }];
    const input = 'one';
    for (const [path, fields] of [
      ['chat/completions', { messages, max_tokens: 5 }],
      ['responses', { input, max_output_tokens: 5 }],
      ['embeddings', { input }],
    ] as const) {
      const [adapted, plain] = await Promise.all(
        ['book:a', 'book'].map(async (model) => {
          const answer = await ask(path, {
            ...fields,
            model,
            ...(path !== 'embeddings' && { temperature: 0 }),
          });
          expect(answer.status, path).toBe(200);
          return (await answer.json()) as Record<string, unknown>;
        }),
      );
      expect([adapted.model, plain.model]).toEqual(['org/book:Q4:a', 'org/book:Q4']);
      const said = ({ choices, output, data }: Record<string, unknown>) =>
        JSON.stringify(choices ?? (output as { content: unknown }[] | undefined)?.[0].content ?? data);
      expect(said(adapted), path).not.toBe(said(plain));
    }
  });

  it('lists adapters as they come and go', async () => {
    const list = async () => {
      const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: object[] };
      return data;
    };
    await engine.addAdapter('late', folder('b'));
    expect(await list()).toMatchObject([
      { id: 'org/book:Q4', parent: null, aliases: ['book'] },
      { id: 'org/book:Q4:a', parent: 'org/book:Q4', aliases: ['tuned'], max_model_len: 128 },
      { id: 'org/book:Q4:late', parent: 'org/book:Q4', aliases: [] },
    ]);
    const one = await fetch(`${server.url}/v1/models/${encodeURIComponent('book:late')}`);
    expect(await one.json()).toMatchObject({ id: 'org/book:Q4:late' });
    expect((await ask('completions', { model: 'book:late', prompt: 'x', max_tokens: 1 })).status).toBe(200);
    await engine.removeAdapter('late');
    const gone = await ask('completions', { model: 'book:late', prompt: 'x', max_tokens: 1 });
    expect(gone.status).toBe(404);
    expect(await errorOf(gone)).toMatchObject({ param: 'model', code: 'model_not_found' });
    expect((await list()).length).toBe(2);
  });

  it('refuses an alias of an adapter that is not there', async () => {
    const serving = built.serve({ engine, aliases: { x: 'sgemoe:none' }, port: 0 });
    await expect(serving).rejects.toThrow(/'x' must name one of sgemoe, sgemoe:a, got 'sgemoe:none'/);
  });
});
