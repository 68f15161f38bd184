/** The OpenAPI 3.1 document of the service. */
import { packageVersion } from '../../../base/version';
import type { Route } from '../exchange';
import { PROMETHEUS_TYPE } from '../prometheus';
import { ANSWERS, ERROR } from './answers';
import { BODIES } from './bodies';

interface Described {
  readonly summary: string;
  /** Types of the answer beside JSON. */
  readonly types?: Readonly<Record<string, object>>;
}

const STREAM = {
  'text/event-stream': {
    type: 'string',
    description: 'with `stream`: events whose data is a chunk as JSON, and `[DONE]` after the last',
  },
};
const TEXT = { type: 'string' };

/** The routes of the document. */
const ROUTES: Readonly<Record<string, Described>> = {
  '/v1/completions': { summary: 'Continue prompts.', types: STREAM },
  '/v1/chat/completions': { summary: 'Answer a conversation.', types: STREAM },
  '/v1/responses': { summary: 'Answer items of a conversation.', types: STREAM },
  '/v1/responses/*': { summary: 'A response that is kept.' },
  '/v1/embeddings': { summary: 'Embed texts.' },
  '/tokenize': { summary: 'The token ids of a text or a conversation.' },
  '/detokenize': { summary: 'The text of token ids.' },
  '/v1/models': { summary: 'The models.' },
  '/v1/models/*': { summary: 'A model, by its name or an alias.' },
  '/version': { summary: 'The version of the server.' },
  '/health': { summary: 'Whether the process lives.' },
  '/ping': { summary: 'Whether the process lives.' },
  '/ready': { summary: 'Whether requests are taken: 200, else 503.' },
  '/metrics': { summary: "Metrics in Prometheus' text format.", types: { [PROMETHEUS_TYPE]: TEXT } },
  '/openapi.json': { summary: 'This document.', types: { 'application/json': { type: 'object' } } },
};

const ANSWER_OF: Readonly<Record<string, object>> = ANSWERS;

/** @param routes those of the service, below `basePath`. @param hasKeys whether routes need an API key. */
export function openApiDocument(routes: readonly Route[], basePath: string, hasKeys: boolean): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const described = ROUTES[route.path];
    if (described === undefined) continue;
    const path = route.path.replace('*', `{${wildcardOf(route)}}`);
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, described, hasKeys) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'sgemoe',
      version: packageVersion(),
      description: "OpenAI's API, as this server has it. `null` counts as absent.",
    },
    servers: [{ url: basePath === '' ? '/' : basePath }],
    paths,
    components: {
      schemas: { Error: ERROR },
      ...(hasKeys && { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } }),
    },
    ...(hasKeys && { security: [{ key: [] }] }),
  };
}

function operation(
  { path, method, open }: Route,
  { summary, types = {} }: Described,
  hasKeys: boolean,
): object {
  const answer = ANSWER_OF[`${method} ${path}`] ?? ANSWER_OF[path];
  const body = method === 'POST' ? (BODIES as Readonly<Record<string, object>>)[path] : undefined;
  const content = { ...(answer && { 'application/json': answer }), ...types };
  const parameter = {
    name: wildcardOf({ path }),
    in: 'path',
    required: true,
    schema: { type: 'string', minLength: 1 },
  };
  return {
    operationId: `${method.toLowerCase()}${path.replaceAll(/[/.]+(\w)|[^\w]/g, (_, letter = '') => letter.toUpperCase())}`,
    summary,
    ...(path.endsWith('*') && { parameters: [parameter] }),
    ...(body && { requestBody: { required: true, content: contentOf({ 'application/json': body }) } }),
    responses: {
      200: { description: 'The answer.', content: contentOf(content) },
      ...(path === '/ready' && {
        503: { description: 'Requests are not taken.', content: contentOf(content) },
      }),
      '4XX': problem('The request is refused.'),
      ...(path !== '/ready' && { '5XX': problem('The server can not answer.') }),
    },
    ...(hasKeys && open && { security: [] }),
  };
}

/** The name of what stands for '*' in a path. */
function wildcardOf({ path }: Pick<Route, 'path'>): string {
  return path.startsWith('/v1/models') ? 'model' : 'id';
}

function problem(description: string): object {
  return { description, content: contentOf({ 'application/json': { $ref: '#/components/schemas/Error' } }) };
}

function contentOf(schemas: Readonly<Record<string, object>>): object {
  return Object.fromEntries(Object.entries(schemas).map(([type, schema]) => [type, { schema }]));
}
