import type { LanguageModelV3CallOptions, SharedV3Warning } from '@ai-sdk/provider';
import type { JsonSchema } from '../../sampling/constraints/options';
import type { Tool, ToolChoice } from '../../text/toolCalls/tools';
import { drawSeed } from '../engine/drawSeed';
import type { GenerateRequest } from '../engine/types';
import { promptMessages } from './promptMessages';

/** Options of a request that the AI SDK gives itself, or that an answer in its form has no place for. */
const NOT_OWN = [
  'prompt',
  'messages',
  'signal',
  'onAbort',
  'suffix',
  'echo',
  'addSpecialTokens',
  'tools',
  'toolChoice',
] as const;

/**
 * `providerOptions.sgemoe` of a call: options of an engine's request that the AI SDK has no setting for, such as `minP`,
 * `repetitionPenalty`, `grammar`, `regex`, `chat` or `timeoutMs`. They overrule its settings.
 */
export type SgemoeLanguageModelOptions = Omit<GenerateRequest, (typeof NOT_OWN)[number]>;

/**
 * The engine's request for a call of the AI SDK, and what of the call changes nothing.
 * @throws TypeError for a part of the prompt that isn't text, or an option that can't be given.
 */
export function requestOf(options: LanguageModelV3CallOptions): {
  request: GenerateRequest;
  warnings: SharedV3Warning[];
} {
  const own = (options.providerOptions?.sgemoe ?? {}) as SgemoeLanguageModelOptions;
  for (const name of NOT_OWN) {
    if (!(name in own)) continue;
    throw new TypeError(
      `providerOptions.sgemoe must not have ${name}, which the AI SDK gives in its own way`,
    );
  }
  const { presencePenalty, frequencyPenalty, temperature, topK, topP } = options;
  const { tools, warnings } = toolsOf(options.tools);
  const request: GenerateRequest = {
    messages: promptMessages(options.prompt),
    signal: options.abortSignal,
    maxTokens: options.maxOutputTokens,
    stop: options.stopSequences,
    seed: options.seed ?? drawSeed(),
    jsonSchema: schemaOf(options.responseFormat),
    ...(tools.length > 0 && { tools, toolChoice: choiceOf(options.toolChoice) }),
    ...{ presencePenalty, frequencyPenalty, temperature, topK, topP },
    ...own,
  };
  return { request, warnings };
}

/** The functions, and warnings of tools that another provider would run. */
function toolsOf(given: LanguageModelV3CallOptions['tools'] = []): {
  tools: Tool[];
  warnings: SharedV3Warning[];
} {
  const tools: Tool[] = [];
  const warnings: SharedV3Warning[] = [];
  for (const tool of given) {
    if (tool.type === 'function') {
      const { name, description, inputSchema, strict } = tool;
      const parameters = inputSchema as Tool['function']['parameters'];
      tools.push({ type: 'function', function: { name, description, parameters, strict } });
    } else warnings.push({ type: 'unsupported', feature: `tool ${tool.id}` });
  }
  return { tools, warnings };
}

function choiceOf(choice: LanguageModelV3CallOptions['toolChoice']): ToolChoice {
  if (choice?.type === 'tool') return { name: choice.toolName };
  return choice?.type ?? 'auto';
}

/** Any object for JSON without a schema, as OpenAI's json_object. */
function schemaOf(format: LanguageModelV3CallOptions['responseFormat']): JsonSchema | undefined {
  if (format?.type !== 'json') return undefined;
  return (format.schema as JsonSchema | undefined) ?? { type: 'object' };
}
