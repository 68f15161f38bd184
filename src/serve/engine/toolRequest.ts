import type { PrescribedCalls } from '../../base/prescribedCalls';
import { CONSTRAINTS } from '../../sampling/constraints/options';
import type { SamplingOptions } from '../../sampling/options';
import { TOOL_CALL_FORMATS, type ToolCallFormatName } from '../../text/toolCalls/formats';
import { prescribeCalls } from '../../text/toolCalls/prescribe';
import { callable, checkToolChoice, checkTools, type Tool } from '../../text/toolCalls/tools';
import type { GenerateRequest } from './types';

/** How a worker reads calls of functions from an answer. */
export interface ToolWork {
  format: ToolCallFormatName;
  /** By name, the JSON Schema that arguments are held to where the model decides whether to call. */
  schemas: ReadonlyMap<string, Readonly<Record<string, unknown>>>;
  /** By name, the JSON Schema of the arguments, whether or not they are held to it. */
  parameters: ReadonlyMap<string, unknown>;
  /** The form of the whole answer; null where it may have text. */
  prescribed: PrescribedCalls | null;
  /** Whether the answer ends after its first call. */
  single: boolean;
}

const ANY_OBJECT = { type: 'object' };

/**
 * What a request's tools ask of the worker; null if it has none, or may not call them.
 * @param formatOf returns the form in which the model writes calls.
 * @throws TypeError or RangeError for tools that are wrong, or beside what they can't stand beside.
 */
export function toolWork(request: GenerateRequest, formatOf: () => ToolCallFormatName): ToolWork | null {
  const { tools = [], toolChoice = 'auto', parallelToolCalls = true, messages, echo } = request;
  checkTools('generate: tools', tools);
  checkToolChoice('generate: toolChoice', toolChoice, tools);
  if (typeof parallelToolCalls !== 'boolean') {
    throw new TypeError(`generate: parallelToolCalls must be a boolean, got ${String(parallelToolCalls)}`);
  }
  if (tools.length === 0 || toolChoice === 'none') return null;
  if (messages === undefined || echo) {
    throw new TypeError('generate: tools must stand beside messages, without echo');
  }
  const other = CONSTRAINTS.find((name) => name !== 'jsonSchema' && request[name] !== undefined);
  if (other !== undefined) throw new RangeError(`generate: ${other} must be absent beside tools`);
  const format = formatOf();
  const { jsonSchema } = request;
  const several = parallelToolCalls && typeof toolChoice !== 'object';
  const isFree = toolChoice === 'auto' && jsonSchema === undefined;
  const prescribed = isFree ? null : prescribeCalls(format, callable(tools, toolChoice), several);
  const isStrict = tools.some((tool) => tool.function.strict === true);
  if (TOOL_CALL_FORMATS[format].written === null && (isStrict || !isFree)) throw notHeld(format, isFree);
  const schemas = new Map(tools.map((tool) => [tool.function.name, schemaOf(tool)]));
  const parameters = new Map(tools.map((tool) => [tool.function.name, tool.function.parameters]));
  const otherwise = toolChoice === 'auto' ? { otherwise: jsonSchema } : {};
  return {
    format,
    schemas,
    parameters,
    prescribed: prescribed && { ...prescribed, ...otherwise },
    single: !several,
  };
}

/** The sampling options without the schema that the answer's form has taken up. */
export function samplingBeside<T extends SamplingOptions>(sampling: T, tools: ToolWork | null): T {
  return tools === null ? sampling : { ...sampling, jsonSchema: undefined };
}

function notHeld(format: ToolCallFormatName, isFree: boolean): RangeError {
  const what = isFree
    ? 'tools must not be strict'
    : "toolChoice must be 'auto' or 'none', without a jsonSchema beside tools,";
  return new RangeError(
    `generate: ${what} where the model writes calls in the form ${format}, which no answer can be held to`,
  );
}

/** What isn't strict need only be an object, since many schemas have parts that constraints refuse. */
function schemaOf({ function: { strict, parameters } }: Tool): Readonly<Record<string, unknown>> {
  return strict === true ? (parameters ?? ANY_OBJECT) : ANY_OBJECT;
}
