import { SgemoeError } from '../../base/errors';
import {
  type ChatMessage,
  type ChatOptions,
  checkContinuation,
  withoutDeveloper,
} from '../../text/chatTemplate';
import { toolsAsText } from '../../text/toolCalls/toolsAsText';

/** The stop text that ends an answer before the model writes the next question. */
export const PLAIN_CHAT_STOP = '\nuser:';

/**
 * A conversation for models without a chat template: a line `role: content` for each message.
 * @throws SgemoeError SGEMOE_CHAT_TEMPLATE for a content that isn't text; TypeError as the template.
 */
export function plainChat(messages: readonly ChatMessage[], options: ChatOptions): string {
  const { continueFinalMessage = false, addGenerationPrompt = !continueFinalMessage } = options;
  if (continueFinalMessage) checkContinuation(messages, addGenerationPrompt);
  const shown = withoutDeveloper(toolsAsText(messages, options.tools ?? []));
  const lines = shown.map((message) => `${message.role}: ${plainContent(message)}\n`);
  const text = lines.join('') + (addGenerationPrompt ? 'assistant:' : '');
  return continueFinalMessage ? text.slice(0, -1) : text;
}

/** The text of a message's content: a string, or a list of parts as OpenAI's clients send it. */
function plainContent({ content }: ChatMessage): string {
  if (typeof content === 'string') return content;
  const parts: unknown[] = Array.isArray(content) ? content : [null];
  return parts.map(textOfPart).join('');
}

function textOfPart(part: unknown): string {
  const { text } = (part ?? {}) as { text?: unknown };
  if (typeof text === 'string') return text;
  throw onlyTexts();
}

function onlyTexts(): SgemoeError {
  const message =
    'The tokenizer has no chat template; the plain one that stands in takes texts as content only.';
  return new SgemoeError('SGEMOE_CHAT_TEMPLATE', message);
}
