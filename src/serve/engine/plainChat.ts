import { SgemoeError } from '../../base/errors';
import type { ChatMessage } from '../../text/chatTemplate';

/** The stop text that ends an answer before the model writes the next question. */
export const PLAIN_CHAT_STOP = '\nuser:';

/** A conversation for models without a chat template: a line `role: content` for each message. */
export function plainChat(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
  const lines = messages.map(({ role, content }) => `${role}: ${plainContent(content)}\n`);
  return lines.join('') + (addGenerationPrompt ? 'assistant:' : '');
}

/** The text of a message's content: a string, or a list of parts as OpenAI's clients send it. */
function plainContent(content: unknown): string {
  if (typeof content === 'string') return content;
  const parts: unknown[] = Array.isArray(content) ? content : [null];
  return parts.map(textOfPart).join('');
}

function textOfPart(part: unknown): string {
  const { text } = (part ?? {}) as { text?: unknown };
  if (typeof text === 'string') return text;
  const message =
    'The tokenizer has no chat template; the plain one that stands in takes texts as content only.';
  throw new SgemoeError('SGEMOE_CHAT_TEMPLATE', message);
}
