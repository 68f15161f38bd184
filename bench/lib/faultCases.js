'use strict';
/** Malformed requests, made from a seed. */

const PATHS = [
  '/v1/completions',
  '/v1/chat/completions',
  '/v1/responses',
  '/v1/embeddings',
  '/tokenize',
  '/detokenize',
];

/** Fields and values that a valid request of each path has. */
const VALID = {
  '/v1/completions': {
    prompt: 'abc',
    max_tokens: 1,
    temperature: 1,
    n: 1,
    stop: ['x'],
    logit_bias: { 65: 1 },
  },
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'abc' }], max_tokens: 1, top_p: 1, seed: 1 },
  '/v1/responses': {
    input: 'abc',
    max_output_tokens: 1,
    tools: [{ type: 'function', name: 'f', parameters: {} }],
    text: { format: { type: 'text' } },
    metadata: { a: 'b' },
  },
  '/v1/embeddings': { input: 'abc', encoding_format: 'float' },
  '/tokenize': { prompt: 'abc', add_special_tokens: true },
  '/detokenize': { tokens: [97, 98] },
};

/** Wrong values, as JSON, for the fields in VALID; FITTING says which fields take some of them. */
const WRONG = [
  '1e999',
  '-1e999',
  '1e308',
  '-1',
  '-0.5',
  '99999999999999999999',
  '-9007199254740993',
  '"NaN"',
  '"Infinity"',
  '"-Infinity"',
  '"undefined"',
  '"\\u0000"',
  '"; DROP TABLE"',
  '"../../etc/passwd"',
  '{}',
  '{"a":{"b":{"c":[]}}}',
  '[[[[]]]]',
  '[null]',
  '[{}]',
  '[1.5]',
  '[-1]',
  '[1e99]',
  '{"__proto__":1}',
  '{"constructor":{"prototype":1}}',
  '{"toJSON":1}',
  '[[1],2]',
  '[true]',
  '{"length":1e9}',
];

/** @type {Record<string, (value: string) => boolean>} */
const FITTING = {
  prompt: isText,
  input: isText,
  stop: isText,
  seed: (value) => value === '-1',
  text: (value) => value === '{}',
  metadata: (value) => value === '{}',
  logit_bias: (value) => value === '{}',
};

const HEADERS = [
  'Content-Length: -1',
  'Content-Length: 1e3',
  'Content-Length: 5\r\nContent-Length: 6',
  'Content-Length: x',
  'Transfer-Encoding: chunked\r\nContent-Length: 5',
  'Transfer-Encoding: xyz',
  'Bad Header: x',
  ': empty',
  'X: \u0001',
  'X: a\rb',
  `X: ${'a'.repeat(20_000)}`,
  'Expect: nonsense',
  'Content-Encoding: gzip',
  'Content-Type: text/xml',
  'Content-Type: application/jsonx',
  'Host: evil.example',
  'Content-Type: ;;;',
];

/**
 * The kinds of faults, each with a function that makes one: `{ path, method?, body?, headers? }` for a request, `{ raw }` for
 * bytes.
 * @type {Record<string, (random: import('../..').Lcg64) => object>}
 */
const KINDS = {
  'JSON cut or changed': (random) => {
    const path = pick(PATHS, random);
    const text = JSON.stringify(VALID[path]);
    const at = random.nextInt(text.length - 1);
    if (random.nextInt(2) === 0) return { path, body: text.slice(0, at) };
    return { path, body: `${text.slice(0, at)}${pick(['\u0000', ']', '"', ',', '\\', '{'], random)}` };
  },
  'wrong types and huge numbers': (random) => {
    const path = pick(PATHS, random);
    const field = pick(Object.keys(VALID[path]), random);
    const wrong = WRONG.filter((value) => !FITTING[field]?.(value));
    return {
      path,
      body: JSON.stringify({ ...VALID[path], [field]: '@' }).replace('"@"', pick(wrong, random)),
    };
  },
  'unknown fields': (random) => {
    const path = pick(PATHS, random);
    const name = pick(
      ['__proto__', 'constructor', 'toString', 'max_tokenz', '', '\u0000', 'é'.repeat(500)],
      random,
    );
    const text = JSON.stringify(VALID[path]);
    return { path, body: `${text.slice(0, -1)},${JSON.stringify(name)}:${random.nextInt(9)}}` };
  },
  'no object': (random) => ({
    path: pick(PATHS, random),
    body: pick(['', 'null', '1', '"text"', '[]', 'true', 'NaN', 'undefined', '-', '\uFEFF', ' '], random),
  }),
  'deep nesting': (random) => {
    const levels = 70 + random.nextInt(20_000);
    const [open, close] = pick(
      [
        ['[', ']'],
        ['{"a":', '}'],
      ],
      random,
    );
    const deep = `${open.repeat(levels)}1${close.repeat(levels)}`;
    return {
      path: pick(PATHS, random),
      body: random.nextInt(2) === 0 ? deep : `{"messages":${deep},"prompt":1}`,
    };
  },
  'no UTF-8': (random) => {
    const bytes = Buffer.from('{"prompt":"abcdefgh","max_tokens":1}');
    const at = 11 + random.nextInt(7);
    bytes[at] = pick([0xff, 0xfe, 0xc0, 0xf8], random);
    return { path: '/v1/completions', body: bytes };
  },
  'too long': (random) => ({
    path: pick(PATHS, random),
    body: `{"prompt":"${'x'.repeat(2 ** 20 + random.nextInt(2 ** 16))}"}`,
  }),
  'paths and methods': (random) => ({
    path: pick(
      ['/..%2f..%2fetc%2fpasswd', '/%2e%2e/', '/%', '/%ff', '/v1/completions/x', '//', '/\\..\\', '/a?%'],
      random,
    ),
    method: pick(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'], random),
    body: '{}',
  }),
  'bad headers': (random) => {
    const head = ['POST /v1/completions HTTP/1.1', 'Connection: close', pick(HEADERS, random)];
    const names = head[2].toLowerCase();
    if (!names.startsWith('host')) head.push('Host: localhost');
    if (!names.startsWith('content-type')) head.push('Content-Type: application/json');
    if (!/content-length|transfer-encoding/.test(names)) head.push('Content-Length: 5');
    return { raw: Buffer.from(`${head.join('\r\n')}\r\n\r\n{"a":`, 'latin1') };
  },
  'no HTTP': (random) => {
    const length = 1 + random.nextInt(200);
    const noise = Buffer.from(Array.from({ length }, () => random.nextInt(256)));
    const start = pick(
      ['', 'GET', 'POST / HTTP/9.9\r\n', '\u0016\u0003\u0001', 'GET / HTTP/1.1\r\n'],
      random,
    );
    return { raw: Buffer.concat([Buffer.from(start, 'latin1'), noise, Buffer.from('\r\n\r\n')]) };
  },
};

function isText(value) {
  return value.startsWith('"');
}

/** @template T @param {readonly T[]} items @param {import('../..').Lcg64} random */
function pick(items, random) {
  return items[random.nextInt(items.length)];
}

module.exports = { KINDS };
