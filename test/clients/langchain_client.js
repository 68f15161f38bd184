'use strict';
/** LangChain against a server: langchain_client.js <url of /v1> <model>. Prints the names of what held. */
const assert = require('node:assert');
const { createRequire } = require('node:module');
const path = require('node:path');

const installed = createRequire(path.join(process.env.CLIENTS, 'package.json'));
const { ChatOpenAI, OpenAI, OpenAIEmbeddings } = installed('@langchain/openai');
const { z } = installed('zod');

const [baseURL, model] = process.argv.slice(2);
const common = { apiKey: 'none', configuration: { baseURL }, maxRetries: 0 };
const chat = new ChatOpenAI({ model, temperature: 0, maxTokens: 100, ...common });
const question = 'What is the capital of France?';
const City = z.object({ name: z.string().max(30), population: z.number().int() });

const checks = {
  async invoke() {
    assert.match((await chat.invoke(question)).content, /Paris/);
  },
  async stream() {
    let text = '';
    for await (const chunk of await chat.stream(question)) text += chunk.content;
    assert.match(text, /Paris/);
  },
  async batch() {
    assert.equal((await chat.batch([question, 'Hello'])).length, 2);
  },
  async completions() {
    const llm = new OpenAI({ model, temperature: 0, maxTokens: 4, ...common });
    const { generations } = await llm.generate(Array.from({ length: 20 }, (_, i) => `${i} is`));
    assert.equal(generations.length, 20);
  },
  async embeddings() {
    const embeddings = new OpenAIEmbeddings({ model, ...common });
    assert.equal(
      (await embeddings.embedDocuments(Array.from({ length: 300 }, (_, i) => `text ${i}`))).length,
      300,
    );
    assert.ok((await embeddings.embedQuery('text')).length > 0);
  },
  async structured() {
    const { name, population } = await chat
      .withStructuredOutput(City, { method: 'jsonSchema' })
      .invoke(question);
    assert.ok(typeof name === 'string' && Number.isInteger(population));
  },
  async tools() {
    const weather = {
      name: 'weather',
      description: 'Tells the weather.',
      schema: z.object({ city: z.string().max(20) }),
    };
    const answer = await chat.bindTools([weather], { tool_choice: 'weather' }).invoke(question);
    assert.equal(answer.tool_calls[0].name, 'weather');
    assert.equal(typeof answer.tool_calls[0].args.city, 'string');
  },
  async responses() {
    const answer = await new ChatOpenAI({ model, useResponsesApi: true, maxTokens: 40, ...common }).invoke(
      question,
    );
    assert.ok(answer.text.length > 0);
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(name);
  }
})().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
