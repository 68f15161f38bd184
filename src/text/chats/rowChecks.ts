import type { ChatMessage } from '../chatMessage';

/** A row that can't be used; its message says why. */
export class RowError extends Error {}

/** The messages of a row's field. @throws RowError. */
export function checkMessages(field: string, value: unknown): ChatMessage[] {
  if (!Array.isArray(value)) throw new RowError(`its ${field} must be a list of messages`);
  value.forEach((message, i) => {
    if (typeof (message as ChatMessage | null)?.role !== 'string') {
      throw new RowError(`message ${i + 1} of its ${field} must be an object with a role`);
    }
  });
  return value as ChatMessage[];
}

/** The tools of a row, which some files keep as JSON in a text. @throws RowError. */
export function checkTools(value: unknown): object[] | undefined {
  if (value === undefined || value === null) return undefined;
  const tools = typeof value === 'string' ? parseTools(value) : value;
  if (Array.isArray(tools) && tools.every((tool) => typeof tool === 'object' && tool !== null)) return tools;
  throw new RowError('its tools must be a list of objects');
}

function parseTools(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
