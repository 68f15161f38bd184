import type { RequestControl } from '../engine/types';
import type { Answer, Call, Route } from './exchange';
import { asObject, Fields } from './fields';
import { messagesOf } from './messages';
import type { Models } from './models';
import type { ModelOptions } from './options';
import { IDLE_EMBEDDING } from './otherFields';
import { EMBEDDING_FIELDS, isIds } from './requestFields';

/** /v1/embeddings, as OpenAI documents it; /tokenize and /detokenize, as vLLM does. */
export function textRoutes(models: Models): Route[] {
  return [
    { method: 'POST', path: '/v1/embeddings', answer: (call) => embed(call, models.of(call.body)) },
    { method: 'POST', path: '/tokenize', answer: (call) => tokenize(call, models.of(call.body)) },
    { method: 'POST', path: '/detokenize', answer: (call) => detokenize(call, models.of(call.body)) },
  ];
}

function controlOf({ cancel, caller }: Call, { timeoutMs }: ModelOptions): RequestControl {
  return { signal: cancel.signal, timeoutMs, client: caller.client };
}

async function embed(call: Call, options: ModelOptions): Promise<Answer> {
  const { engine, model, adapter } = options;
  const { inputs, base64, form } = embeddingOrder(new Fields(asObject(call.body)), options);
  const { embeddings, promptTokens } = await engine.embed(inputs, {
    ...form,
    adapter,
    ...controlOf(call, options),
  });
  call.caller.charge(promptTokens);
  const body = {
    object: 'list',
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    data: embeddings.map((embedding, index) => ({
      object: 'embedding',
      index,
      embedding: base64 ? base64Of(embedding) : [...embedding],
    })),
  };
  return { body };
}

async function tokenize(call: Call, options: ModelOptions): Promise<Answer> {
  const { engine } = options;
  const fields = new Fields(asObject(call.body));
  fields.take('model');
  const prompt = fields.text('prompt');
  const messages = fields.take('messages') === undefined ? undefined : messagesOf(fields);
  const addSpecialTokens = fields.boolean('add_special_tokens') ?? true;
  fields.refuseOthers();
  if (prompt === undefined && messages === undefined) fields.fail('prompt', 'a string', prompt);
  if (prompt !== undefined && messages !== undefined)
    fields.fail('prompt', "absent beside 'messages'", prompt);
  const text = messages === undefined ? prompt! : { messages };
  const tokens = await engine.tokenize(text, { ...controlOf(call, options), addSpecialTokens });
  return { body: { count: tokens.length, max_model_len: engine.contextLength, tokens: [...tokens] } };
}

async function detokenize(call: Call, options: ModelOptions): Promise<Answer> {
  const fields = new Fields(asObject(call.body));
  fields.take('model');
  const tokens = fields.take('tokens');
  fields.refuseOthers();
  if (!isIds(tokens)) return fields.fail('tokens', 'an array of token ids', tokens);
  return { body: { prompt: await options.engine.detokenize(tokens, controlOf(call, options)) } };
}

function embeddingOrder(fields: Fields, { pooling, normalize }: ModelOptions) {
  fields.take('model');
  const { input: row, ...rows } = EMBEDDING_FIELDS;
  const input = fields.read('input', row);
  if (input === undefined) return fields.fail('input', row.must, input);
  const format = fields.read('encoding_format', rows.encoding_format);
  const form = {
    dimensions: fields.read('dimensions', rows.dimensions),
    pooling: fields.read('pooling', rows.pooling) ?? pooling,
    normalize: fields.read('normalize', rows.normalize) ?? normalize,
  };
  fields.idle(IDLE_EMBEDDING);
  fields.refuseOthers();
  const inputs = typeof input === 'string' || isIds(input) ? [input] : input;
  return { inputs, base64: format === 'base64', form };
}

/** An embedding as base64 of little-endian float32, which OpenAI's client asks for by default. */
function base64Of(embedding: Float32Array): string {
  const bytes = Buffer.alloc(embedding.length * Float32Array.BYTES_PER_ELEMENT);
  embedding.forEach((value, i) => {
    bytes.writeFloatLE(value, i * Float32Array.BYTES_PER_ELEMENT);
  });
  return bytes.toString('base64');
}
