import { describe, expect, it } from 'vitest';
import { plainChat } from '../../src/serve/engine/plainChat';
import { chatOrder } from '../../src/serve/http/requests';
import { ChatTemplates } from '../../src/text/chatTemplate';

/** The engine's request for a body. */
const requestOf = (body: object) =>
  chatOrder({ max_tokens: 1, ...body }, { maxTokens: 10, maxChoices: 4 }).requests[0];

/** What a template that shows everything makes of a body. */
const render = (body: object, source = SHOWS_ALL) => {
  const { messages, chat } = requestOf(body);
  return new ChatTemplates({ chat_template: source }, undefined).render(messages!, chat);
};
const SHOWS_ALL =
  '{% for m in messages %}[{{ m.role }}{{ m.name }}{{ m.tool_call_id }}:{{ m.reasoning_content }}|{{ m.content | trim }}' +
  '{% for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments.city }}){% endfor %}]{% endfor %}' +
  '{% if add_generation_prompt %}>{% endif %}{{ reasoning_effort }}{{ mood }}';

describe('messages of a chat', () => {
  it('may have texts in parts, and go to the template as one text', () => {
    const content = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    expect(requestOf({ messages: [{ role: 'user', content }] }).messages).toEqual([
      { role: 'user', content: 'ab' },
    ]);
  });

  it('go back and forth with calls of tools, their answers and reasoning', () => {
    const call = { id: 'c1', type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } };
    const messages = [
      { role: 'user', content: 'q', name: 'Ann' },
      { role: 'assistant', content: null, reasoning_content: 'hm', tool_calls: [call], refusal: null },
      { role: 'tool', content: 'sunny', tool_call_id: 'c1' },
    ];
    expect(render({ messages })).toBe('[userAnn:|q][assistant:hm|weather(Rome)][toolc1:|sunny]');
  });

  it.each([
    ['[system:|x]', SHOWS_ALL],
    ['[developer:|x]', `${SHOWS_ALL}{# developer #}`],
  ])('of role developer are system for a template that has no developer: %s', (text, source) => {
    expect(render({ messages: [{ role: 'developer', content: 'x' }] }, source)).toBe(text);
  });

  it('and variables of the template come from fields', () => {
    const messages = [{ role: 'user', content: 'q' }];
    const fields = { reasoning_effort: 'low', chat_template_kwargs: { mood: 'glad' } };
    expect(render({ messages, ...fields, add_generation_prompt: true })).toBe('[user:|q]>lowglad');
  });

  it('end where the last content ends when that is continued, also if it occurs again behind it', () => {
    const messages = [
      { role: 'user', content: 'q' },
      { role: 'assistant', content: ']' },
    ];
    expect(render({ messages, continue_final_message: true })).toBe('[user:|q][assistant:|]');
    expect(() => render({ messages, continue_final_message: true }, '{{ messages[0].content }}')).toThrow(
      'leaves out the last message',
    );
    expect(() =>
      new ChatTemplates({ chat_template: SHOWS_ALL }, undefined).render(messages, {
        continueFinalMessage: true,
        addGenerationPrompt: true,
      }),
    ).toThrow(/addGenerationPrompt must be false beside continueFinalMessage/);
  });

  it('are written plainly without a template', () => {
    const messages = [
      { role: 'developer', content: 'be brief' },
      { role: 'assistant', content: 'Well' },
    ];
    expect(plainChat(messages, {})).toBe('system: be brief\nassistant: Well\nassistant:');
    expect(plainChat(messages, { addGenerationPrompt: false })).toBe('system: be brief\nassistant: Well\n');
    expect(plainChat(messages, { continueFinalMessage: true })).toBe('system: be brief\nassistant: Well');
    expect(() => plainChat([{ role: 'user', content: [{ type: 'image_url' }] }], {})).toThrow(
      /takes texts as content only/,
    );
  });
});
