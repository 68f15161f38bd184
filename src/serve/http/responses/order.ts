/** Turns a body of /v1/responses into a request of the engine, and the fields that its response repeats. */
import { integer } from '../../../base/options';
import type { JsonSchema } from '../../../sampling/constraints/options';
import type { ChatMessage } from '../../../text/chatMessage';
import type { Tool } from '../../../text/toolCalls/tools';
import { drawSeed } from '../../engine/drawSeed';
import type { GenerateRequest } from '../../engine/types';
import { Fields, type JsonObject } from '../fields';
import type { ModelOptions } from '../options';
import { Problem } from '../problem';
import { CHAT_FIELDS } from '../requestFields';
import { samplingOf } from '../requests';
import { checkChoice, choiceOf, functionTool } from '../toolFields';
import { IDLE_RESPONSE, REFUSED_RESPONSE, RESPONSE_FIELDS } from './fields';
import { messagesOfItems } from './items';

export interface ResponseOrder {
  request: GenerateRequest;
  /** The conversation without instructions, to go on from. */
  messages: readonly ChatMessage[];
  instructions: string | undefined;
  stream: boolean;
  store: boolean;
  /** Whether the oldest messages may be left out. */
  truncates: boolean;
  /** Fields of the response that repeat those of the request. */
  repeated: JsonObject;
}

/** The conversation of a response that is kept; undefined if it isn't. */
type EarlierOf = (id: string) => readonly ChatMessage[] | undefined;

const ROWS = RESPONSE_FIELDS;

/** @throws Problem for a field that is wrong, unknown or not supported, 404 for a response that isn't kept. */
export function responseOrder(body: JsonObject, options: ModelOptions, earlierOf: EarlierOf): ResponseOrder {
  const fields = new Fields(body);
  fields.take('model'); // Models.of has read it.
  const { messages, previous } = conversationOf(fields, earlierOf);
  const instructions = fields.read('instructions', ROWS.instructions);
  const answer = answerOf(fields, options);
  const metadata = fields.read('metadata', ROWS.metadata) ?? {};
  const truncation = fields.read('truncation', ROWS.truncation) ?? 'disabled';
  const isStored = fields.read('store', ROWS.store) ?? true;
  const stream = fields.read('stream', ROWS.stream) ?? false;
  fields.idle(IDLE_RESPONSE);
  fields.refuse(REFUSED_RESPONSE);
  fields.refuseOthers();
  const repeated = {
    ...answer.repeated,
    ...{ metadata, truncation, store: isStored, background: false, service_tier: 'default' },
    instructions: instructions ?? null,
    previous_response_id: previous ?? null,
  };
  const truncates = truncation === 'auto';
  return { request: answer.request, messages, instructions, stream, store: isStored, truncates, repeated };
}

/** How the answer is made: the engine's request without messages, and the fields that repeat it. */
function answerOf(
  fields: Fields,
  { maxTokens: most, engine }: ModelOptions,
): Pick<ResponseOrder, 'request' | 'repeated'> {
  const sampling = samplingOf(fields);
  const limit = integer({ min: 1, max: most }, { doc: '' });
  const maxTokens = fields.read('max_output_tokens', limit);
  const seed = fields.read('seed', ROWS.seed) ?? drawSeed();
  const { tools, ...calls } = toolsOf(fields);
  const format = formatOf(fields);
  const effort = effortOf(fields);
  const include = fields.read('include', ROWS.include) ?? [];
  const top = fields.read('top_logprobs', ROWS.top_logprobs) ?? 0;
  const request: GenerateRequest = {
    ...sampling,
    ...(format.schema !== undefined && { jsonSchema: format.schema }),
    ...(tools.length > 0 && { tools, ...calls }),
    ...(include.includes('message.output_text.logprobs') && { topLogprobs: top }),
    ...{ seed, maxTokens: maxTokens ?? most },
    chat: { variables: effort === undefined ? {} : { reasoning_effort: effort } },
  };
  const { temperature = 1, topP = 1 } = { ...engine.samplingDefaults, ...sampling };
  const repeated = {
    ...{ temperature, top_p: topP, top_logprobs: top, max_output_tokens: maxTokens ?? null },
    parallel_tool_calls: calls.parallelToolCalls ?? true,
    reasoning: { effort: effort ?? null, summary: null },
    text: { format: format.repeated },
    tool_choice: repeatedChoice(calls.toolChoice),
    tools: tools.map(repeatedTool),
  };
  return { request, repeated };
}

/** The input behind the conversation that it goes on from. */
function conversationOf(
  fields: Fields,
  earlierOf: EarlierOf,
): { messages: ChatMessage[]; previous: string | undefined } {
  const input = fields.read('input', ROWS.input);
  if (input === undefined) return fields.fail('input', ROWS.input.must, input);
  const previous = fields.read('previous_response_id', ROWS.previous_response_id);
  if (previous === undefined) {
    const messages = messagesOfItems(input);
    return messages.length > 0
      ? { messages, previous }
      : fields.fail('input', 'a string or an array with a message', input);
  }
  const earlier = earlierOf(previous);
  if (earlier !== undefined) {
    return { messages: [...earlier, ...messagesOfItems(input, earlier)], previous };
  }
  const message = "'previous_response_id' names no response that is kept here.";
  throw new Problem(404, message, 'previous_response_id', 'previous_response_not_found');
}

function toolsOf(fields: Fields) {
  const given = fields.read('tools', ROWS.tools) ?? [];
  const tools = given.map((tool, i) => functionTool(new Fields(tool, `tools[${i}].`), true));
  const toolChoice = choiceOf(fields, ({ name }) => name);
  const parallelToolCalls = fields.read('parallel_tool_calls', ROWS.parallel_tool_calls);
  checkChoice(fields, tools, toolChoice);
  return {
    tools,
    ...(toolChoice !== undefined && { toolChoice }),
    ...(parallelToolCalls !== undefined && { parallelToolCalls }),
  };
}

/** The form that `text` asks for: the schema, and the field as a response has it. */
function formatOf(fields: Fields): { schema?: JsonSchema; repeated: JsonObject } {
  fields.read('text', ROWS.text);
  const text = fields.object('text');
  text?.idle({ verbosity: {} });
  const format = text?.object('format');
  text?.refuseOthers();
  if (format === undefined) return { repeated: { type: 'text' } };
  const type = format.text('type');
  const isSchema = type === 'json_schema';
  if (type !== 'text' && type !== 'json_object' && !isSchema) {
    return format.fail('type', "'text' or 'json_object' or 'json_schema'", type);
  }
  const name = format.text('name');
  const description = format.text('description');
  // Every answer follows the schema, strict or not.
  const strict = format.boolean('strict');
  const schema = format.read('schema', CHAT_FIELDS.response_format);
  format.refuseOthers();
  if (type === 'text') return { repeated: { type } };
  if (!isSchema) return { schema: { type: 'object' }, repeated: { type } };
  if (schema === undefined) return format.fail('schema', 'an object', schema);
  const repeated = {
    type,
    name: name ?? null,
    description: description ?? null,
    schema,
    strict: strict ?? null,
  };
  return { schema, repeated };
}

/** `reasoning.effort`. */
function effortOf(fields: Fields): string | undefined {
  fields.read('reasoning', ROWS.reasoning);
  const reasoning = fields.object('reasoning');
  const effort = reasoning?.text('effort');
  reasoning?.idle({ summary: {}, generate_summary: {} });
  reasoning?.refuseOthers();
  return effort;
}

function repeatedChoice(choice: GenerateRequest['toolChoice']): unknown {
  return typeof choice === 'object' ? { type: 'function', name: choice.name } : (choice ?? 'auto');
}

function repeatedTool({ function: { name, description, parameters, strict } }: Tool): object {
  return {
    ...{ type: 'function', name, description: description ?? null },
    ...{ parameters: parameters ?? null, strict: strict ?? false },
  };
}
