import type { FastifyInstance, FastifyReply } from 'fastify';
import type { RequestControl } from '../engine/types';
import { clientController } from './clientController';
import { asObject, Fields } from './fields';
import type { ResolvedHttpOptions } from './options';
import { checkModel, isIds, messagesOf } from './requests';

/** Texts of one request for embeddings. */
const MAX_INPUTS = 256;

/** /v1/embeddings, as OpenAI documents it; /tokenize and /detokenize, as vLLM does. */
export function addTextRoutes(app: FastifyInstance, options: ResolvedHttpOptions): void {
  const { engine, model, timeoutMs } = options;
  const control = (reply: FastifyReply): RequestControl => ({
    signal: clientController(reply).signal,
    timeoutMs,
  });

  app.post('/v1/embeddings', async (request, reply) => {
    const { inputs, base64 } = embeddingOrder(new Fields(asObject(request.body)), options);
    const { embeddings, promptTokens } = await engine.embed(inputs, control(reply));
    return {
      ...{ object: 'list', model, usage: { prompt_tokens: promptTokens, total_tokens: promptTokens } },
      data: embeddings.map((embedding, index) => ({
        ...{ object: 'embedding', index },
        embedding: base64 ? base64Of(embedding) : [...embedding],
      })),
    };
  });

  app.post('/tokenize', async (request, reply) => {
    const fields = new Fields(asObject(request.body));
    checkModel(fields, model);
    const prompt = fields.text('prompt');
    const messages = fields.take('messages') === undefined ? undefined : messagesOf(fields);
    const addSpecialTokens = fields.boolean('add_special_tokens') ?? true;
    fields.refuseOthers();
    if (prompt === undefined && messages === undefined) fields.fail('prompt', 'a string', prompt);
    if (prompt !== undefined && messages !== undefined)
      fields.fail('prompt', "absent beside 'messages'", prompt);
    const text = messages === undefined ? prompt! : { messages };
    const tokens = await engine.tokenize(text, { ...control(reply), addSpecialTokens });
    return { count: tokens.length, max_model_len: engine.contextLength, tokens: [...tokens] };
  });

  app.post('/detokenize', async (request, reply) => {
    const fields = new Fields(asObject(request.body));
    checkModel(fields, model);
    const tokens = fields.take('tokens');
    fields.refuseOthers();
    if (!isIds(tokens)) return fields.fail('tokens', 'an array of token ids', tokens);
    return { prompt: await engine.detokenize(tokens, control(reply)) };
  });
}

function embeddingOrder(fields: Fields, { model, engine }: ResolvedHttpOptions) {
  checkModel(fields, model);
  const input = fields.take('input');
  const format = fields.text('encoding_format') ?? 'float';
  fields.neutral({ user: [], dimensions: [engine.config.hiddenDim] });
  fields.refuseOthers();
  if (format !== 'float' && format !== 'base64')
    fields.fail('encoding_format', "'float' or 'base64'", format);
  return { inputs: inputsOf(fields, input), base64: format === 'base64' };
}

function inputsOf(fields: Fields, input: unknown): (string | number[])[] {
  if (typeof input === 'string') return [input];
  if (Array.isArray(input) && input.length > 0) {
    if (isIds(input)) return [input];
    const fits = input.every((each) => typeof each === 'string' || isIds(each));
    if (fits && input.length <= MAX_INPUTS) return input;
  }
  return fields.fail(
    'input',
    `a string, an array of token ids, or an array of up to ${MAX_INPUTS} of these`,
    input,
  );
}

/** Float32, little-endian: what OpenAI's client asks for by itself. */
function base64Of(embedding: Float32Array): string {
  const bytes = Buffer.alloc(embedding.length * Float32Array.BYTES_PER_ELEMENT);
  embedding.forEach((value, i) => {
    bytes.writeFloatLE(value, i * Float32Array.BYTES_PER_ELEMENT);
  });
  return bytes.toString('base64');
}
