import type { CallableFunction } from './prescribe';

/** A function that a model may call, as OpenAI's API describes one. */
export interface Tool {
  readonly type: 'function';
  readonly function: {
    /** Letters, digits, '_', '-' and '.', at most 64. */
    readonly name: string;
    readonly description?: string | undefined;
    /** JSON Schema of the arguments, an object. Default: there are none. */
    readonly parameters?: Readonly<Record<string, unknown>> | undefined;
    /** Whether arguments must be valid by `parameters`, also where the model decides whether to call. Default false. */
    readonly strict?: boolean | undefined;
  };
}

/** Whether the answer calls functions: as the model likes, never, at least once, or once the one of this name. */
export type ToolChoice = 'auto' | 'none' | 'required' | { readonly name: string };

const NO_ARGUMENTS = { type: 'object', properties: {}, additionalProperties: false };

export const TOOL_NAME = /^[\w.-]{1,64}$/;

/** @throws TypeError for what isn't a list of functions with different names. */
export function checkTools(what: string, tools: unknown): asserts tools is readonly Tool[] {
  if (!Array.isArray(tools)) throw new TypeError(`${what} must be an array, got ${String(tools)}`);
  const names = new Set<string>();
  for (const [i, tool] of tools.entries()) {
    const { type, function: made } = (tool ?? {}) as { type?: unknown; function?: Tool['function'] };
    if (type !== 'function' || typeof made !== 'object' || made === null) {
      throw new TypeError(`${what}[${i}] must be { type: 'function', function: { name, ... } }`);
    }
    const { name, parameters } = made;
    if (typeof name !== 'string' || !TOOL_NAME.test(name)) {
      throw new TypeError(`${what}[${i}]: name must be up to 64 letters, digits, '_', '-' and '.'`);
    }
    if (names.has(name)) throw new TypeError(`${what} must have different names, got two of ${name}`);
    names.add(name);
    const isSchema =
      parameters === undefined ||
      (typeof parameters === 'object' && parameters !== null && !Array.isArray(parameters));
    if (!isSchema) throw new TypeError(`${what}[${i}]: parameters must be a JSON Schema, an object`);
  }
}

/** @throws TypeError or RangeError for a choice that there isn't, or of a function that isn't among the tools. */
export function checkToolChoice(what: string, choice: unknown, tools: readonly Tool[]): void {
  if (choice === 'auto' || choice === 'none') return;
  const name = typeof choice === 'object' && choice !== null ? (choice as { name?: unknown }).name : null;
  if (choice !== 'required' && typeof name !== 'string') {
    throw new TypeError(`${what} must be 'auto', 'none', 'required' or { name }, got ${String(choice)}`);
  }
  if (name === null ? tools.length > 0 : tools.some((tool) => tool.function.name === name)) return;
  throw new RangeError(`${what} must choose among tools, got ${name ?? 'none of them'}`);
}

/** The functions that a choice leaves, with the schemas of their arguments. */
export function callable(tools: readonly Tool[], choice: ToolChoice): CallableFunction[] {
  const left =
    typeof choice === 'object' ? tools.filter((tool) => tool.function.name === choice.name) : tools;
  return left.map(({ function: { name, parameters = NO_ARGUMENTS } }) => ({ name, parameters }));
}
