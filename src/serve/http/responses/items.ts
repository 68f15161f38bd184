/** The items of a conversation as /v1/responses has them, in the form that templates take. */
import type { ChatMessage } from '../../../text/chatMessage';
import { describe, Fields, type JsonObject } from '../fields';
import { argumentsOf, textOf } from '../messages';
import { badRequest } from '../problem';

const ROLES = ['user', 'assistant', 'system', 'developer'];
/** What items of answers have beside their content. */
const OF_ANSWERS = { id: {}, status: {}, phase: {} };

/** A call of a function, by which its result finds the name. */
type Calls = Map<string, string>;

/**
 * Messages of the items, after those of an earlier conversation.
 * @throws Problem for an item that is wrong or of another kind.
 */
export function messagesOfItems(
  items: string | readonly JsonObject[],
  earlier: readonly ChatMessage[] = [],
): ChatMessage[] {
  const calls: Calls = new Map();
  for (const { tool_calls: made = [] } of earlier) {
    for (const { id, function: called } of made as { id: string; function: { name: string } }[])
      calls.set(id, called.name);
  }
  if (typeof items === 'string') return [{ role: 'user', content: items }];
  const messages: ChatMessage[] = [];
  for (const [i, item] of items.entries()) addItem(messages, new Fields(item, `input[${i}].`), calls);
  return messages;
}

function addItem(messages: ChatMessage[], fields: Fields, calls: Calls): void {
  const type = fields.text('type') ?? 'message';
  if (type === 'message') messages.push(messageOf(fields));
  else if (type === 'function_call') addCall(messages, fields, calls);
  else if (type === 'function_call_output') messages.push(resultOf(fields, calls));
  else if (type === 'reasoning')
    return; // Thoughts of another model; ours are part of its text.
  else {
    const name = fields.nameOf('type');
    const what = "only 'message', 'function_call', 'function_call_output' and 'reasoning' are";
    throw badRequest(
      `'${name}' ${describe(type)} is not supported: ${what}.`,
      name,
      null,
      `'${name}' is not supported.`,
    );
  }
  fields.idle(OF_ANSWERS);
  fields.refuseOthers();
}

function messageOf(fields: Fields): ChatMessage {
  const role = fields.text('role');
  if (role === undefined || !ROLES.includes(role)) {
    return fields.fail('role', ROLES.map((each) => `'${each}'`).join(' or '), role);
  }
  return { role, content: contentOf(fields, 'content') };
}

function contentOf(fields: Fields, name: string): string {
  const content = fields.take(name);
  if (typeof content === 'string' || Array.isArray(content)) return textOf(fields, name, content);
  return fields.fail(name, 'a string or an array of text parts', content);
}

/** Calls that stand one after the other are those of one answer. */
function addCall(messages: ChatMessage[], fields: Fields, calls: Calls): void {
  const callId = fields.text('call_id');
  const name = fields.text('name');
  const given = fields.text('arguments');
  if (callId === undefined || name === undefined) {
    fields.fail(callId === undefined ? 'call_id' : 'name', 'a string', undefined);
  }
  const wrong = () => fields.fail('arguments', 'the JSON of an object', given);
  const call = { id: callId, type: 'function', function: { name, arguments: argumentsOf(given, wrong) } };
  calls.set(callId, name);
  const last = messages.at(-1);
  if (last?.role === 'assistant') last.tool_calls = [...((last.tool_calls as object[]) ?? []), call];
  else messages.push({ role: 'assistant', content: '', tool_calls: [call] });
}

function resultOf(fields: Fields, calls: Calls): ChatMessage {
  const callId = fields.text('call_id');
  if (callId === undefined) return fields.fail('call_id', 'a string', callId);
  const name = calls.get(callId);
  if (name === undefined) return fields.fail('call_id', "that of a 'function_call' before it", callId);
  return { role: 'tool', content: contentOf(fields, 'output'), tool_call_id: callId, name };
}
