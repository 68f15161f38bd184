import { describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/text/byteTokenizer';
import { ChatTemplates } from '../../src/text/chatTemplate';
import { expectError } from '../helpers/expectError';

const CHATML = `{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('unknown role ' + message['role']) }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + eos_token + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}`;

const config = {
  chat_template: CHATML,
  eos_token: { content: '<|im_end|>', special: true },
  bos_token: null,
};
const messages = [
  { role: 'system', content: 'Be brief. ' },
  { role: 'user', content: 'Hi' },
];

describe('applyChatTemplate', () => {
  it('renders messages as Python does: blocks trimmed, special tokens of the configuration by name', () => {
    const chat = new ChatTemplates(config, undefined);
    const turns = '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n';
    expect(chat.render(messages)).toBe(turns);
    expect(chat.render(messages, { addGenerationPrompt: true })).toBe(`${turns}<|im_start|>assistant\n`);
  });

  it('takes chat_template.jinja before the configuration', () => {
    expect(new ChatTemplates(config, '{{ messages | length }}').render(messages)).toBe('2');
  });

  it('chooses among several templates by name, and the one for tools when there are tools', async () => {
    const chat_template = [
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: '{{ tools[0].name }}' },
    ];
    const chat = new ChatTemplates({ chat_template }, undefined);
    expect(chat.render(messages)).toBe('plain');
    expect(chat.render(messages, { tools: [{ name: 'search' }] })).toBe('search');
    expect(chat.render(messages, { tools: [{ name: 'search' }], template: 'default' })).toBe('plain');
    await expectError('SGEMOE_CHAT_TEMPLATE', /no chat template "rag", only default, tool_use/, () =>
      chat.render(messages, { template: 'rag' }),
    );
  });

  it('hands documents and variables to the template', () => {
    const chat = new ChatTemplates({}, '{{ documents[0].title }} {{ thinking }}');
    const options = { documents: [{ title: 'T' }], variables: { thinking: 'off' } };
    expect(chat.render(messages, options)).toBe('T off');
  });

  it('reports the message of a template that refuses, and a missing template', async () => {
    const chat = new ChatTemplates(config, undefined);
    await expectError('SGEMOE_CHAT_TEMPLATE', /can not be rendered: unknown role robot/, () =>
      chat.render([{ role: 'robot', content: '' }]),
    );
    await expectError('SGEMOE_CHAT_TEMPLATE', /"default" can not be rendered/, () =>
      new ChatTemplates({}, '{% if %}').render(messages),
    );
    await expectError('SGEMOE_CHAT_TEMPLATE', /neither tokenizer_config/, () =>
      new ChatTemplates({}, undefined).render(messages),
    );
    await expectError('SGEMOE_CHAT_TEMPLATE', /byte tokenizer/, () =>
      new ByteTokenizer().applyChatTemplate([]),
    );
    expect(() => chat.render(messages, { addGeneration: true } as object)).toThrow(/unknown option/);
    expect(() => chat.render('Hi' as never)).toThrow(TypeError);
  });
});
