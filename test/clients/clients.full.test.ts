/**
 * Clients that other people wrote, as they come from their registries, against SmolLM2 on a server: the official OpenAI
 * client for Python, LiteLLM, llm, LangChain, and lm-evaluation-harness, whose scores are those of `sgemoe eval`. The
 * official client for Node and the AI SDK have tests of their own in test/serve.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoETransformer, trainBpe } from '../../src';
import { sgemoe } from '../cli/run';
import { built } from '../helpers/built';
import { SMALL } from '../helpers/smallModel';
import { nodeWith, pythonWith } from './environment';

const { smollm } = require(resolve(__dirname, '../../.ci/smollm.js')) as { smollm(): string };

// As in test/serve/smollm.slow.test.ts: with activations in 8 bits this small model errs about Paris.
process.env.SGEMOE_EXACT = '1';

describe('with SmolLM2', () => {
  let engine: Awaited<ReturnType<typeof built.Engine.open>>;
  let server: Awaited<ReturnType<typeof built.serve>>;
  let to: string[];
  beforeAll(async () => {
    engine = await built.Engine.open(smollm(), { maxBatch: 4, contextLength: 1024 });
    server = await built.serve({ port: 0, engine, model: 'smollm2' });
    to = [`${server.url}/v1`, 'smollm2'];
  });
  afterAll(async () => {
    await engine?.close();
    await server?.close({ graceMs: 0 });
  });

  it("serves OpenAI's client for Python: every route, streamed and whole", async () => {
    const names = await pythonWith(['openai'])('openai_client.py', to);
    const routes =
      'models chat streamed_chat streamed_by_helper logprobs completions embeddings structured refusals';
    expect(names).toEqual([...routes.split(' '), 'tools', 'responses']);
  });

  it('serves LiteLLM', async () => {
    const names = await pythonWith(['litellm'])('litellm_client.py', to, {
      LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    });
    expect(names).toEqual(['chat', 'streamed', 'text', 'embeddings', 'structured', 'tools', 'responses']);
  });

  it('serves llm', async () => {
    const names = await pythonWith(['llm'])('llm_client.py', to);
    expect(names).toEqual(['prompt', 'stream', 'conversation', 'schema', 'tools']);
  });

  it('serves LangChain', async () => {
    const packages = ['@langchain/openai', '@langchain/core', 'zod'];
    const names = await nodeWith(packages)('langchain_client.js', to);
    const routes = [
      'invoke',
      'stream',
      'batch',
      'completions',
      'embeddings',
      'structured',
      'tools',
      'responses',
    ];
    expect(names).toEqual(routes);
  });
});

describe('lm-evaluation-harness', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sgemoe clients-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('gets the log-likelihood that eval tells, orders choices by it and generates', async () => {
    const model = join(folder, 'model');
    const text =
      'a small text that a tokenizer of some hundred tokens cuts into pieces, and a model without training scores';
    const tokenizer = await trainBpe([text.repeat(20)], { vocabSize: 300 });
    const config = { ...SMALL, vocabSize: tokenizer.vocabSize, maxSeqLen: 256 };
    await MoETransformer.create(config, { seed: 3 }).save(model, tokenizer.files());
    const data = join(folder, 'text.txt');
    writeFileSync(data, text);
    const evaluated = await sgemoe(['eval', model, '--data', data, '--seq-len', '256', '--json']);
    const { loss, countedTokens } = JSON.parse(evaluated.stdout);

    const engine = await built.Engine.open(model, { maxBatch: 4 });
    const server = await built.serve({ port: 0, engine, model: 'small' });
    try {
      const request = { context: 'a', continuation: text.slice(1), choices: [' small', ' pieces', ' text'] };
      const [line] = (
        await pythonWith(['lm_eval[api]', 'transformers'])('lm_eval_client.py', [
          `${server.url}/v1`,
          'small',
          model,
          JSON.stringify(request),
        ])
      ).slice(-1);
      const { whole, chosen, generated } = JSON.parse(line);
      // The server's scores are rounded to float32 one by one, and eval adds in another order.
      expect(Math.abs(whole + loss * countedTokens)).toBeLessThan(countedTokens * 1e-5);
      const scores = request.choices.map((choice) => likelihood(engine, `a${choice}`));
      expect(chosen).toEqual((await Promise.all(scores)).map((score) => expect.closeTo(score, 4)));
      const greedy = await engine.generate({ prompt: 'a', maxTokens: 8, temperature: 0 });
      expect(generated).toBe(greedy.text.split('\n\n')[0]);
    } finally {
      await engine.close();
      await server.close({ graceMs: 0 });
    }
  });
});

/** The sum of the log-probabilities of all tokens but the first. */
async function likelihood(engine: typeof built.Engine.prototype, prompt: string): Promise<number> {
  const { logprobs } = await engine.generate({ prompt, echo: true, maxTokens: 0, topLogprobs: 0 });
  return logprobs!.slice(1).reduce((sum, { logprob }) => sum + logprob, 0);
}
