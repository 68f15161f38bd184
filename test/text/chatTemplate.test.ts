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

  it('takes the variables of the language that the Jinja package knows', () => {
    const values =
      "{{ true }}{{ False }}{{ none is none }}{{ range(3)[-1] }}{{ strftime_now('%Y') | length }}";
    const loops =
      '{% for i in range(2, 6, 2) %}{{ i }}{% endfor %}{% for i in range(4, 1, -2) %}{{ i }}{% endfor %}';
    expect(new ChatTemplates({}, values + loops).render(messages)).toBe('truefalsetrue242442');
  });

  it.each([
    ['a range of a billion', '{% for i in range(1000000000) %}x{% endfor %}'],
    ['nested ranges', '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}'],
    ['a join of a huge range', "{{ range(1000000000) | join(',') }}"],
    ['tojson of a huge range', '{{ range(1000000000) | tojson }}'],
    [
      'a text that doubles',
      `{% set ns = namespace(x='ab') %}${'{% set ns.x = ns.x ~ ns.x %}'.repeat(40)}{{ ns.x }}`,
    ],
    ['a join that is long', `{{ range(99999) | join('${'a'.repeat(9999)}') }}`],
    [
      'a list that doubles',
      `{% set ns = namespace(x=[1]) %}${'{% set ns.x = ns.x + ns.x %}'.repeat(40)}{{ ns.x | length }}`,
    ],
    ['a text of 5 MB', 'a'.repeat(5_000_000)],
    ['spaces in which its own reader is slow', `{{ 1 }}${' '.repeat(400_000)}`],
    ['brackets that nest', '{{ '.padEnd(400_000, '(')],
  ])('ends %s with an error of its code', async (_what, template) => {
    const chat = new ChatTemplates({}, template);
    await expectError('SGEMOE_CHAT_TEMPLATE', /can not be rendered/, () =>
      chat.render(messages, { timeoutMs: 300 }),
    );
    expect(new ChatTemplates(config, undefined).render(messages)).toContain('Hi');
  });

  it('bounds time and length of a text as options say', async () => {
    const slow = new ChatTemplates(
      {},
      '{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}',
    );
    await expectError('SGEMOE_CHAT_TEMPLATE', /longer than 20 ms/, () =>
      slow.render(messages, { timeoutMs: 20 }),
    );
    const long = new ChatTemplates({}, '{{ "12345" }}');
    expect(long.render(messages, { maxCharacters: 5 })).toBe('12345');
    await expectError('SGEMOE_CHAT_TEMPLATE', /more than 4 characters/, () =>
      long.render(messages, { maxCharacters: 4 }),
    );
    for (const timeoutMs of [0, 1.5, 2 ** 31])
      expect(() => slow.render(messages, { timeoutMs })).toThrow(RangeError);
    expect(() => slow.render(messages, { maxCharacters: 'x' as never })).toThrow(TypeError);
  });
});
