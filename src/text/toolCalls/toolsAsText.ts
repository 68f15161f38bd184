import type { ChatMessage } from '../chatMessage';

type Call = { function?: { name?: unknown; arguments?: unknown } | undefined };

const HOW = `To call a function, write its name and its arguments as JSON between these marks, once for each call:
<tool_call>
{"name": "<name of the function>", "arguments": {<its arguments>}}
</tool_call>`;

/**
 * A conversation for a template that doesn't know functions: a system message describes them, calls and their results are texts,
 * as Hermes has them.
 */
export function toolsAsText(messages: readonly ChatMessage[], tools: readonly object[]): ChatMessage[] {
  const shown: ChatMessage[] = [];
  /** The message of the last results: those of one turn are one message, since turns of some templates must alternate. */
  let results: ChatMessage | null = null;
  for (const message of messages) {
    const { tool_calls: calls, ...rest } = message;
    if (message.role === 'tool') {
      const content = `<tool_response>\n${String(message.content)}\n</tool_response>`;
      if (results === null) {
        results = { role: 'user', content };
        shown.push(results);
      } else results.content = `${String(results.content)}\n${content}`;
      continue;
    }
    results = null;
    if (Array.isArray(calls) && calls.length > 0) {
      const texts = [message.content, ...calls.map(callText)].filter((text) => text && text !== '');
      shown.push({ ...rest, content: texts.join('\n') });
    } else shown.push(message);
  }
  return tools.length === 0 ? shown : withSystem(shown, tools);
}

function callText({ function: called }: Call): string {
  const { name, arguments: given = {} } = called ?? {};
  const text = typeof given === 'string' ? given : JSON.stringify(given);
  return `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": ${text}}\n</tool_call>`;
}

function withSystem(messages: readonly ChatMessage[], tools: readonly object[]): ChatMessage[] {
  const list = tools.map((tool) => JSON.stringify(tool)).join('\n');
  const text = `These functions may be called, each described by JSON Schema:\n${list}\n\n${HOW}`;
  const [first, ...rest] = messages;
  if (first?.role !== 'system' && first?.role !== 'developer')
    return [{ role: 'system', content: text }, ...messages];
  return [{ ...first, content: `${String(first.content)}\n\n${text}` }, ...rest];
}
