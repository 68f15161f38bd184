/** A request of the page as code: a command of curl, and a program with the official client. */

/** @typedef {{ url: string, key: string, path: string, request: Record<string, unknown> }} Call */

/** @param {Call} call */
export function asCurl({ url, key, path, request }) {
  const lines = [
    `curl ${quoted(`${url}v1/${path}`)}`,
    "-H 'content-type: application/json'",
    ...(key === '' ? [] : ['-H "authorization: Bearer $OPENAI_API_KEY"']),
    `-d ${quoted(JSON.stringify(request, null, 2))}`,
  ];
  return `${lines.join(' \\\n  ')}\n`;
}

/** A text as one word of a shell. @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {Call} call */
export function asProgram({ url, key, path, request }) {
  const apiKey = key === '' ? "'none'" : 'process.env.OPENAI_API_KEY';
  const method = path === 'completions' ? 'completions' : 'chat.completions';
  const answer = path === 'completions' ? 'text' : 'message';
  return `import OpenAI from 'openai';

const client = new OpenAI({ baseURL: ${JSON.stringify(`${url}v1`)}, apiKey: ${apiKey} });
const answer = await client.${method}.create(${JSON.stringify(request, null, 2)});
console.log(answer.choices[0].${answer});
`;
}
