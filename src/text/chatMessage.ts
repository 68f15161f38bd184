/** A message of a conversation. Templates know more keys, such as tool_calls. */
export interface ChatMessage {
  /**
   * 'system', 'user', 'assistant', 'tool', or another role that the template knows. 'developer' becomes 'system' for a
   * template that doesn't know it.
   */
  role: string;
  content: unknown;
  [key: string]: unknown;
}
