/** The OpenAPI document: valid, complete, and as strict as the checks of the requests. */
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv2020 from 'ajv/dist/2020';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OptionRow } from '../../src/base/options';
import { MESSAGE_FIELDS } from '../../src/serve/http/messages';
import { BODIES } from '../../src/serve/http/openapi/bodies';
import { resolveHttpOptions } from '../../src/serve/http/options';
import {
  CHAT_FIELDS,
  COMMON_FIELDS,
  COMPLETION_FIELDS,
  EMBEDDING_FIELDS,
} from '../../src/serve/http/requestFields';
import { Service } from '../../src/serve/http/service';
import { openServer, post } from './servers';

interface Document {
  openapi: string;
  servers: { url: string }[];
  paths: Record<string, Record<string, { responses: Record<string, { content: Content }> }>>;
  components: { securitySchemes?: object };
}
type Content = Record<string, { schema: object }>;

let server: Awaited<ReturnType<typeof openServer>>;
let document: Document;
beforeAll(async () => {
  server = await openServer();
  document = (await (await fetch(`${server.url}/openapi.json`)).json()) as Document;
});
afterAll(() => server.close());

const ajv = new Ajv2020({ strict: false, allErrors: false });

it('is a valid document of OpenAPI 3.1', async () => {
  const { valid, errors } = await new Validator().validate({ ...document });
  expect(errors).toBeUndefined();
  expect(valid).toBe(true);
  expect(document.openapi).toBe('3.1.0');
});

it('has every route except the files of the page, and tells the base path and the key', () => {
  const options = { engine: server.engine, playground: false, basePath: '/llm', apiKeys: ['k'] };
  const service = new Service(resolveHttpOptions(options as never));
  const inDocument = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} /llm${path.replace(/\{.*\}/, '*')}`),
  );
  expect(inDocument.toSorted()).toEqual(
    service.routes.map(({ method, path }) => `${method} ${path}`).toSorted(),
  );
  const route = service.routes.find(({ path }) => path.endsWith('/openapi.json'))!;
  const { body } = route.answer({} as never) as unknown as { body: Document };
  expect(body.servers).toEqual([{ url: '/llm' }]);
  expect(body.components.securitySchemes).toBeDefined();
  expect(document.components.securitySchemes).toBeUndefined();
});

/** Values of all kinds, in and out of the ranges of the fields. */
const VALUES: unknown[] = [
  ...[null, true, false, '', 'a', 'float', 'mean', 'user', 'x'.repeat(300), [], {}, [[]], [{}], [null]],
  ...[0, 1, -1, 0.5, -0.5, 2, 2.5, 20, 21, 100, 100.5, 1e9, 2 ** 53, -(2 ** 53), 1e300],
  ...[['a'], ['a', 1], [1, 2], [1.5], [-1], [[1], 'a'], [['a']], Array(65).fill(1), Array(129).fill('a')],
  ...[{ 1: 1 }, { a: 1 }, { 1: 101 }, { 1: '1' }, { type: 'text' }, { type: 'json_schema' }],
  ...[Array(2049).fill('a'), ['x'.repeat(257)], [{ function: { name: 'f' } }], [{ role: 'user' }]],
];

/** Rows whose nested fields are checked beside the row. */
const NESTED = [
  'tool_choice',
  'stream_options',
  'sgemoe',
  'response_format',
  'messages',
  'content',
  'tool_calls',
  'tools',
];

describe('the schema of a field takes what its check takes', () => {
  // biome-ignore lint/suspicious/noExplicitAny: rows of any type.
  const rows: [string, OptionRow<any>][] = Object.entries({
    ...COMMON_FIELDS,
    ...COMPLETION_FIELDS,
    ...CHAT_FIELDS,
    ...EMBEDDING_FIELDS,
    ...MESSAGE_FIELDS,
  });
  it.each(rows)('%s', (name, { schema, isType, holds }) => {
    expect(schema, 'the row has a schema').toBeDefined();
    const validate = ajv.compile(schema!);
    for (const value of VALUES.filter((each) => each !== null)) {
      const taken = isType(value) && holds(value);
      const shown = JSON.stringify(value).slice(0, 80);
      if (validate(value)) expect(taken, shown).toBe(true);
      else if (!NESTED.includes(name)) expect(taken, shown).toBe(false);
    }
  });
});

describe('the schema of a body', () => {
  const message = { role: 'user', content: 'a' };
  const format = (json_schema: unknown, type = 'json_schema') => ({ response_format: { type, json_schema } });
  const cases: [keyof typeof BODIES, boolean, object][] = [
    ['/v1/completions', true, { prompt: 'a', max_tokens: 1, stop: null, user: 7, stream_options: null }],
    ['/v1/completions', true, { prompt: [[1], 'a'], max_tokens: 1, sgemoe: { routing: true } }],
    ['/v1/completions', false, {}],
    ['/v1/completions', false, { prompt: null }],
    ['/v1/completions', false, { prompt: 'a', messages: [message] }],
    ['/v1/completions', false, { prompt: 'a', stream: true, stream_options: { a: 1 } }],
    ['/v1/completions', false, { prompt: 'a', sgemoe: { routing: 1 } }],
    ['/v1/chat/completions', true, { messages: [message, { role: 'assistant' }], max_tokens: 1 }],
    ['/v1/chat/completions', true, { messages: [{ ...message, refusal: null, name: 'b' }], max_tokens: 1 }],
    [
      '/v1/chat/completions',
      true,
      { messages: [message], max_tokens: 1, audio: null, ...format(null, 'text') },
    ],
    [
      '/v1/chat/completions',
      true,
      { messages: [message], max_tokens: 4, ...format({ schema: {}, name: 'a' }) },
    ],
    ['/v1/chat/completions', false, { messages: [message], ...format({ name: 'a' }) }],
    ['/v1/chat/completions', false, { messages: [message], ...format(undefined, 'xml') }],
    ['/v1/chat/completions', false, { messages: [] }],
    ['/v1/chat/completions', false, { messages: [{ role: 'user' }] }],
    ['/v1/chat/completions', false, { messages: [{ role: 'cat', content: 'a' }] }],
    ['/v1/chat/completions', false, { messages: [{ ...message, content: [{ type: 'image_url' }] }] }],
    ['/v1/chat/completions', false, { messages: [message], audio: {} }],
    ['/v1/chat/completions', false, { messages: [message], modalities: ['audio'] }],
    ['/v1/chat/completions', true, { messages: [message], max_tokens: 1, tools: [], tool_choice: 'auto' }],
    ['/v1/chat/completions', false, { messages: [message], tools: [{ type: 'function' }] }],
    ['/v1/chat/completions', false, { messages: [message], tools: [{ type: 'web_search' }] }],
    ['/v1/responses', true, { input: 'a', max_output_tokens: 1, metadata: { a: 'b' }, background: false }],
    ['/v1/responses', true, { input: [message], max_output_tokens: 1, text: { format: { type: 'text' } } }],
    ['/v1/responses', false, { input: 'a', metadata: { a: 1 } }],
    ['/v1/responses', false, { input: 'a', text: { format: { type: 'json_schema' } } }],
    ['/v1/responses', false, { input: 7 }],
    ['/v1/responses', false, { input: 'a', truncation: 'some' }],
    ['/v1/embeddings', true, { input: ['a', [1]], encoding_format: 'base64', pooling: null }],
    ['/v1/embeddings', false, { input: 'a', pooling: 'max' }],
    ['/v1/embeddings', false, { input: [] }],
    ['/tokenize', true, { prompt: 'a' }],
    ['/tokenize', true, { messages: [message], prompt: null }],
    ['/tokenize', false, { messages: [message], prompt: 'a' }],
    ['/tokenize', false, {}],
    ['/detokenize', true, { tokens: [] }],
    ['/detokenize', false, { tokens: ['a'] }],
  ];
  it.each(cases)('%s: %s %j, as the server', async (path, wanted, body) => {
    expect(ajv.validate(BODIES[path], body)).toBe(wanted);
    expect((await post(server.url + path, body)).status).toBe(wanted ? 200 : 400);
  });
});

describe('an answer is as the document says', () => {
  const chat = { messages: [{ role: 'user', content: 'a' }], max_tokens: 2 };
  it.each<[string, string, object | null]>([
    ['/v1/completions', '/v1/completions', { prompt: 'ab', max_tokens: 2, logprobs: 2, echo: true }],
    ['/v1/completions', '/v1/completions', { prompt: 'ab', max_tokens: 2, sgemoe: { routing: true } }],
    ['/v1/chat/completions', '/v1/chat/completions', { ...chat, logprobs: true, top_logprobs: 2, n: 2 }],
    ['/v1/responses', '/v1/responses', { input: 'a', max_output_tokens: 2 }],
    ['/v1/embeddings', '/v1/embeddings', { input: ['a', 'b'] }],
    ['/tokenize', '/tokenize', { prompt: 'a' }],
    ['/detokenize', '/detokenize', { tokens: [97] }],
    ['/v1/models', '/v1/models', null],
    ['/v1/models/{model}', '/v1/models/sgemoe', null],
    ['/version', '/version', null],
    ['/ready', '/ready', null],
  ])('%s', async (path, url, body) => {
    const answer = body === null ? await fetch(server.url + url) : await post(server.url + url, body);
    const { responses } = document.paths[path][body === null ? 'get' : 'post'];
    const validate = ajv.compile(responses['200'].content['application/json'].schema);
    validate(await answer.json());
    expect(validate.errors).toBeNull();
  });
});
