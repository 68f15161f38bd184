import { afterAll, describe, expect, it } from 'vitest';
import { built } from '../helpers/built';
import { byteModel } from './engines';
import { errorOf, openServer, post } from './servers';

const model = byteModel();
/** Steps of 4 tokens, so that a text takes several. */
const engine = await built.Engine.create(model, new built.ByteTokenizer(), { maxBatch: 2, maxStepTokens: 4 });
const server = await openServer({ engine, pooling: 'last', normalize: true });
afterAll(() => server.close());
const { hiddenDim } = model.config;

/** The final norm's output [T,H], by token. */
function hiddenOf(text: string, of = model): number[][] {
  const { hiddenDim } = of.config;
  const tokens = [...new TextEncoder().encode(text)];
  const hidden = new Float32Array(tokens.length * hiddenDim);
  new built.Decoder(of).step([{ slot: 0, tokens, logits: 'none' }], { hidden });
  return tokens.map((_, t) => [...hidden.subarray(t * hiddenDim, (t + 1) * hiddenDim)]);
}

const TEXT = 'some words';
const last = hiddenOf(TEXT).at(-1)!;
const mean = last.map((_, h) => hiddenOf(TEXT).reduce((sum, row) => sum + row[h], 0) / TEXT.length);
const unit = (vector: number[]) => vector.map((each) => each / Math.hypot(...vector));
const near = (vector: number[]) => vector.map((each) => expect.closeTo(each, 4));

describe('an embedding', () => {
  it('is the mean over the tokens or that of the last, shortened, then scaled', async () => {
    const embed = async (options: object) => [...(await engine.embed([TEXT], options)).embeddings[0]];
    expect(await embed({})).toEqual(near(mean));
    expect(await embed({ pooling: 'last' })).toEqual(near(last));
    expect(await embed({ normalize: true })).toEqual(near(unit(mean)));
    expect(await embed({ dimensions: 3 })).toEqual(near(mean.slice(0, 3)));
    expect(await embed({ dimensions: 3, normalize: true })).toEqual(near(unit(mean.slice(0, 3))));
  });

  it("is what the model's own kernels compute, to the bit", async () => {
    const wide = byteModel({ hiddenDim: 128, ffnDim: 192 });
    const text = 'some words that take one step of a few dozen tokens';
    const owner = await built.Engine.create(wide, new built.ByteTokenizer());
    const { embeddings } = await owner.embed([text], { pooling: 'last' });
    await owner.close();
    expect([...embeddings[0]]).toEqual(hiddenOf(text, wide).at(-1)!);
  });

  it('has the same form for each text of a request', async () => {
    const { embeddings } = await engine.embed(['other', TEXT], { pooling: 'last' });
    expect([...embeddings[1]]).toEqual(near(last));
  });

  it.each([
    [{ pooling: 'max' }, /pooling must be 'mean' or 'last', got max/],
    [{ dimensions: 0 }, /dimensions must be an integer >= 1, got 0/],
    [{ dimensions: hiddenDim + 1 }, /dimensions must be at most/],
    [{ normalize: 1 }, /normalize must be a boolean/],
  ])('with %o is refused', async (options, message) => {
    await expect(engine.embed([TEXT], options as object)).rejects.toThrow(message);
  });
});

describe('/v1/embeddings', () => {
  const ask = (body: object) => post(`${server.url}/v1/embeddings`, { input: TEXT, ...body });

  it("has the server's form where a request is silent", async () => {
    const vector = async (body: object) =>
      ((await (await ask(body)).json()) as { data: { embedding: number[] }[] }).data[0].embedding;
    expect(await vector({})).toEqual(near(unit(last)));
    expect(await vector({ pooling: 'mean', normalize: false, dimensions: 2 })).toEqual(
      near(mean.slice(0, 2)),
    );
  });

  it('takes 2,048 texts and no more', async () => {
    const input = new Array(2048).fill('x');
    expect((await ask({ input })).status).toBe(200);
    expect(await errorOf(await ask({ input: [...input, 'x'] }))).toMatchObject({ param: 'input' });
  });

  it.each<[object, string | null]>([
    [{ input: [] }, 'input'],
    [{ encoding_format: 'hex' }, 'encoding_format'],
    [{ dimensions: 'all' }, 'dimensions'],
    [{ dimensions: 10_000 }, null],
    [{ pooling: 'max' }, 'pooling'],
    [{ normalize: 1 }, 'normalize'],
  ])('refuses %o', async (body, param) => {
    const answer = await ask(body);
    expect(answer.status).toBe(400);
    expect(await errorOf(answer)).toMatchObject({ param });
  });
});
