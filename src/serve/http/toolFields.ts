/** The tools of a request, as OpenAI documents them, in the form that the engine takes. */
import { TOOL_NAME, type Tool, type ToolChoice } from '../../text/toolCalls/tools';
import type { GenerateRequest } from '../engine/types';
import { describe, Fields, isObject, type JsonObject } from './fields';
import { badRequest } from './problem';
import { CHAT_FIELDS } from './requestFields';

const NAME = "up to 64 letters, digits, '_', '-' and '.'";

/** @throws Problem for a tool that is wrong or no function, or a choice of one that isn't there. */
export function toolOptions(
  fields: Fields,
): Pick<GenerateRequest, 'tools' | 'toolChoice' | 'parallelToolCalls'> {
  const given = fields.read('tools', CHAT_FIELDS.tools);
  const tools = given?.map((tool, i) =>
    functionTool(new Fields(tool, `${fields.nameOf('tools')}[${i}].`), false),
  );
  const choice = choiceOf(fields, (value) => nameIn(value.function));
  const parallelToolCalls = fields.read('parallel_tool_calls', CHAT_FIELDS.parallel_tool_calls);
  checkChoice(fields, tools ?? [], choice);
  return { tools, toolChoice: choice, parallelToolCalls };
}

/** The name within `{ name }`. */
function nameIn(value: unknown): unknown {
  return isObject(value) ? value.name : undefined;
}

/** `tool_choice`. @param nameOf returns the name of the function that an object chooses. */
export function choiceOf(fields: Fields, nameOf: (value: JsonObject) => unknown): ToolChoice | undefined {
  const row = CHAT_FIELDS.tool_choice;
  const value = fields.read('tool_choice', row);
  if (value === undefined || typeof value === 'string') return value as ToolChoice | undefined;
  const name = (value as JsonObject).type === 'function' ? nameOf(value as JsonObject) : undefined;
  return typeof name === 'string' ? { name } : fields.fail('tool_choice', row.must, value);
}

/** @throws Problem for tools of the same name, and for a choice among none. */
export function checkChoice(fields: Fields, tools: readonly Tool[], choice: ToolChoice | undefined): void {
  const names = tools.map((tool) => tool.function.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) fields.fail('tools', 'functions with different names', `two of ${twice}`);
  if (choice === undefined || choice === 'auto' || choice === 'none') return;
  const isThere = choice === 'required' ? tools.length > 0 : names.includes(choice.name);
  if (isThere) return;
  const what =
    choice === 'required' ? "needs 'tools'" : `names ${describe(choice.name)}, which is not in 'tools'`;
  throw badRequest(
    `'tool_choice' ${what}.`,
    fields.nameOf('tool_choice'),
    null,
    "'tool_choice' names no tool.",
  );
}

/** A function of `tools`. @param flat whether name, description and so on stand beside `type`, as in /v1/responses. */
export function functionTool(fields: Fields, flat: boolean): Tool {
  const type = fields.text('type');
  if (type !== 'function') {
    if (type === undefined) return fields.fail('type', "'function'", type);
    const message = `'${fields.nameOf('type')}' ${describe(type)} is not supported: only functions are, which the client runs.`;
    throw badRequest(message, fields.nameOf('type'), null, 'A tool is no function.');
  }
  const inner = flat ? fields : fields.object('function');
  if (inner === undefined) return fields.fail('function', 'an object', inner);
  const name = inner.text('name');
  if (name === undefined || !TOOL_NAME.test(name)) return inner.fail('name', NAME, name);
  const description = inner.text('description');
  const parameters = inner.read('parameters', CHAT_FIELDS.chat_template_kwargs);
  const strict = inner.boolean('strict');
  inner.refuseOthers();
  fields.refuseOthers();
  const described = {
    name,
    ...(description !== undefined && { description }),
    ...(parameters !== undefined && { parameters }),
    ...(strict !== undefined && { strict }),
  };
  return { type: 'function', function: described };
}
