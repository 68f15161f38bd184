import type {
  LanguageModelV3Message,
  LanguageModelV3Prompt,
  LanguageModelV3ToolResultPart,
} from '@ai-sdk/provider';
import type { ChatMessage } from '../../text/chatTemplate';

type ToolOutput = LanguageModelV3ToolResultPart['output'];

/**
 * The messages of the AI SDK in the form that templates take.
 * @throws TypeError for a part that isn't text, such as an image.
 */
export function promptMessages(prompt: LanguageModelV3Prompt): ChatMessage[] {
  return prompt.flatMap(messagesOf);
}

/** A message of role tool may hold several results; templates want a message for each. */
function messagesOf(message: LanguageModelV3Message): ChatMessage[] {
  if (message.role === 'system') return [{ role: 'system', content: message.content }];
  if (message.role === 'user') return [{ role: 'user', content: message.content.map(textOf).join('') }];
  if (message.role === 'assistant') return [answerOf(message.content)];
  return message.content.flatMap((part) => {
    // An approval speaks of tools that the provider runs, of which there are none.
    if (part.type !== 'tool-result') return [];
    const { toolCallId, toolName, output } = part;
    return [{ role: 'tool', tool_call_id: toolCallId, name: toolName, content: textOfOutput(output) }];
  });
}

function answerOf(parts: Extract<LanguageModelV3Message, { role: 'assistant' }>['content']): ChatMessage {
  const texts: string[] = [];
  const reasoning: string[] = [];
  const calls: object[] = [];
  for (const part of parts) {
    if (part.type === 'reasoning') reasoning.push(part.text);
    else if (part.type === 'tool-call') {
      const { toolCallId, toolName, input } = part;
      calls.push({ id: toolCallId, type: 'function', function: { name: toolName, arguments: input } });
    } else texts.push(textOf(part));
  }
  return {
    role: 'assistant',
    content: texts.join(''),
    ...(reasoning.length > 0 && { reasoning_content: reasoning.join('') }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function textOf(part: { type: string; text?: string; mediaType?: string }): string {
  if (part.type === 'text') return part.text!;
  throw new TypeError(
    `prompt must hold texts, since the model reads nothing else, got ${part.mediaType ?? part.type}`,
  );
}

function textOfOutput(output: ToolOutput): string {
  if (output.type === 'text' || output.type === 'error-text') return output.value;
  if (output.type === 'json' || output.type === 'error-json') return JSON.stringify(output.value);
  if (output.type === 'execution-denied') return output.reason ?? 'The call was not permitted.';
  return output.value.map(textOf).join('');
}
