/** The messages of a chat, as OpenAI documents them, in the form that templates take. */
import { choice, type OptionInfo, other } from '../../base/options';
import type { ChatMessage } from '../../text/chatTemplate';
import { Fields, isObject, type JsonObject } from './fields';
import { badRequest } from './problem';
import { CHAT_FIELDS, text } from './requestFields';

/** The parts of a content, beside which others may stand. */
const PARTS = [
  { types: ['text', 'input_text', 'output_text'], name: 'text' },
  { types: ['refusal'], name: 'refusal' },
].map(({ types, name }) => ({
  type: 'object',
  properties: { type: { enum: types }, [name]: { type: 'string' } },
  required: ['type', name],
}));

/** A call of a function; what it has beside these is the template's. */
const CALL = {
  type: 'object',
  properties: {
    function: {
      type: 'object',
      properties: { name: { type: 'string' } },
      required: ['name'],
    },
  },
  required: ['function'],
};

/** Fields of a message. */
export const MESSAGE_FIELDS = {
  role: choice(['system', 'developer', 'user', 'assistant', 'tool'], {
    doc: "whose message it is; 'developer' is 'system' for templates that don't know it",
  }),
  content: other<unknown>(
    'a string or an array of text parts',
    (value) => typeof value === 'string' || Array.isArray(value),
    {
      doc: 'text, or parts `{ "type": "text", "text": ... }`',
      note: 'an assistant may have none',
      absent: '',
      schema: { anyOf: [{ type: 'string' }, { type: 'array', items: { anyOf: PARTS } }] },
    },
  ),
  name: text({ doc: 'name, where the template shows it', absent: 'none' }),
  reasoning_content: text({
    doc: 'reasoning of an earlier answer, where the template shows it',
    absent: 'none',
  }),
  tool_calls: objects({ doc: 'calls of functions in an earlier answer, where the template shows them' }),
  tool_call_id: text({ doc: 'the call that a message of role tool answers', absent: 'none' }),
};

/** Fields of answers, which clients send back. */
export const OF_ANSWERS = { refusal: {}, annotations: {}, audio: {} };

/** @throws Problem for a message that is wrong, or has images and the like. */
export function messagesOf(fields: Fields): ChatMessage[] {
  const messages = fields.read('messages', CHAT_FIELDS.messages);
  if (messages === undefined) return fields.fail('messages', CHAT_FIELDS.messages.must, messages);
  return messages.map((message, i) => {
    if (!isObject(message)) return fields.fail('messages', 'an array of objects', message);
    return messageOf(new Fields(message, `messages[${i}].`));
  });
}

function messageOf(fields: Fields): ChatMessage {
  const role = fields.read('role', MESSAGE_FIELDS.role);
  if (role === undefined) return fields.fail('role', MESSAGE_FIELDS.role.must, role);
  const given = fields.read('content', MESSAGE_FIELDS.content);
  if (given === undefined && role !== 'assistant') fields.fail('content', MESSAGE_FIELDS.content.must, given);
  const message: ChatMessage = { role, content: textOf(fields, 'content', given ?? '') };
  for (const name of ['name', 'reasoning_content', 'tool_call_id'] as const) {
    const value = fields.read(name, MESSAGE_FIELDS[name]);
    if (value !== undefined) message[name] = value;
  }
  const calls = fields.read('tool_calls', MESSAGE_FIELDS.tool_calls);
  if (calls !== undefined && calls.length > 0)
    message.tool_calls = calls.map((call, i) => callOf(fields, call, i));
  fields.idle(OF_ANSWERS);
  fields.refuseOthers();
  return message;
}

/** The content of a field as one text. @throws Problem for parts that are no text. */
export function textOf(fields: Fields, name: string, content: unknown): string {
  if (typeof content === 'string') return content;
  return (content as unknown[])
    .map((part) => {
      if (isObject(part)) {
        if (TEXTS.includes(part.type) && typeof part.text === 'string') return part.text;
        if (part.type === 'refusal' && typeof part.refusal === 'string') return part.refusal;
        const kind = MEDIA[String(part.type)];
        if (kind !== undefined) {
          const message = `'${fields.nameOf(name)}' has ${kind}: the model reads and writes text only.`;
          throw badRequest(message, fields.nameOf(name));
        }
      }
      return fields.fail(name, 'a string or an array of { "type": "text", "text": ... }', part);
    })
    .join('');
}

/** Types of parts that are texts; the last two are those of /v1/responses. */
const TEXTS: readonly unknown[] = ['text', 'input_text', 'output_text'];

const MEDIA: Readonly<Record<string, string>> = {
  image_url: 'an image',
  input_image: 'an image',
  image: 'an image',
  input_audio: 'audio',
  audio_url: 'audio',
  video_url: 'a video',
  file: 'a file',
  input_file: 'a file',
};

/** A call with its arguments as an object, as templates expect them. */
function callOf(fields: Fields, call: JsonObject, i: number): JsonObject {
  const called = call.function;
  const wrong = () => fields.fail(`tool_calls[${i}]`, '{ "function": { "name", "arguments" } }', call);
  if (!isObject(called) || typeof called.name !== 'string') return wrong();
  return { ...call, function: { ...called, arguments: argumentsOf(called.arguments, wrong) } };
}

/** A call's arguments, which templates expect as an object. */
export function argumentsOf(value: unknown, wrong: () => never): unknown {
  if (typeof value !== 'string') return value ?? {};
  try {
    return JSON.parse(value === '' ? '{}' : value);
  } catch {
    return wrong();
  }
}

function objects(info: OptionInfo<JsonObject[]>) {
  return other<JsonObject[]>(
    'an array of objects',
    (value) => Array.isArray(value) && value.every(isObject),
    { absent: 'none', schema: { type: 'array', items: CALL }, ...info },
  );
}
