/** From rows to tokens: which of them are learnt, with templates of every habit. */
import { describe, expect, it } from 'vitest';
import { type LossOn, samplesOf } from '../../../src/text/chats/samples';
import { CHATML, chatTokenizer } from '../../helpers/chatTokenizer';

/** Each sample's text, with what is learnt in brackets. */
function marked(value: unknown, template?: string, lossOn: LossOn = 'assistant'): string[] {
  const tokenizer = chatTokenizer(template);
  return samplesOf({ place: 'line 1', value }, tokenizer, lossOn).map(({ ids, counts }) => {
    let text = '';
    for (let i = 0; i < ids.length; i++) {
      if (counts[i] !== (counts[i - 1] ?? 0)) text += counts[i] === 1 ? '[' : ']';
      text += tokenizer.decode([ids[i]]);
    }
    return counts[ids.length - 1] === 1 ? `${text}]` : text;
  });
}

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const TURNS = [user('a'), assistant('b'), user('c'), assistant('d.')];
const CHATML_TURNS =
  '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[d.<|im_end|>]\n';

/** CHATML with generation blocks around answers, their end included. */
const BLOCKS =
  "{% for message in messages %}\n{% if message.role == 'assistant' %}\n{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n\n" +
  "{% else %}\n{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}";
/** The habit of Llama 2: instructions in brackets, a system turn inside the first, roles that must alternate. */
const INSTRUCTIONS =
  "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '/' %}{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}" +
  "{% for message in turns %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}" +
  "{% if message.role == 'user' %}{{ 'I:' + (system if loop.first else '') + message.content | trim + ';' }}{% else %}{{ ' ' + message.content | trim + '<|im_end|>' }}{% endif %}{% endfor %}";
/** The habit of Qwen 3: thoughts stand in the last answer alone. */
const THOUGHTS =
  "{% for message in messages %}{{ message.role[0] + ':' }}{% if message.role == 'assistant' and loop.last %}<t></t>{% endif %}{{ message.content + '<|im_end|>' }}{% endfor %}" +
  '{% if add_generation_prompt %}a:{% endif %}';
/** The habit of reasoning models: the generation prompt opens what the turn doesn't repeat. */
const OPENED =
  "{% for message in messages %}{{ message.role[0] + ':' + message.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}a:<think>{% endif %}";

describe('answers of a conversation', () => {
  it.each([
    ['by prefixes: the end token counts, the line break behind it does not', CHATML, CHATML_TURNS],
    ['by generation blocks', BLOCKS, CHATML_TURNS],
  ])('%s', (_, template, text) => {
    expect(marked({ messages: TURNS }, template)).toEqual([text]);
  });

  it('what blocks mark goes before what prefixes would say', () => {
    const template = BLOCKS.replace('<|im_end|>{% endgeneration %}', '{% endgeneration %}<|im_end|>');
    expect(marked({ messages: TURNS.slice(0, 2) }, template)).toEqual([
      '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b]<|im_end|>\n\n',
    ]);
  });

  it('a template without a generation prompt, that trims, and puts the system turn first', () => {
    const messages = [
      { role: 'system', content: 's' },
      user(' a '),
      assistant(' b\n'),
      user('c'),
      assistant('d'),
    ];
    expect(marked({ messages }, INSTRUCTIONS)).toEqual(['I:s/a;[ b<|im_end|>]I:c;[ d<|im_end|>]']);
  });

  it('a template that refuses roles in another order says so', () => {
    const messages = [user('a'), user('b'), assistant('c')];
    expect(() => marked({ messages }, INSTRUCTIONS)).toThrow(/roles must alternate/);
  });

  it('a template that writes earlier answers otherwise: a sample for each answer, as it would be generated', () => {
    expect(marked({ messages: TURNS }, THOUGHTS)).toEqual([
      'u:a<|im_end|>a:[<t></t>b<|im_end|>]',
      'u:a<|im_end|>a:b<|im_end|>u:c<|im_end|>a:[<t></t>d.<|im_end|>]',
    ]);
  });

  it('a generation prompt that opens more than the turn repeats', () => {
    expect(marked({ messages: TURNS.slice(0, 2) }, OPENED)).toEqual(['u:a<|im_end|>a:[b<|im_end|>]']);
  });

  it('a template whose beginnings differ from the whole is refused', () => {
    const template = '{{ messages | length }}{% for message in messages %}{{ message.content }}{% endfor %}';
    expect(() => marked({ messages: TURNS }, template)).toThrow(/writes what precedes message 2 otherwise/);
  });

  it('tools and their calls: the calls count, the results do not', () => {
    const template =
      "{{ (tools | length) if tools else 0 }}{% for m in messages %}{{ m.role[0] + ':' + (m.content or '') }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}a:{% endif %}";
    const messages = [
      user('a'),
      { role: 'assistant', content: null, tool_calls: [{ function: { name: 'f' } }] },
      { role: 'tool', content: '1' },
      assistant('b'),
    ];
    const text = '1u:a<|im_end|>a:[f<|im_end|>]t:1<|im_end|>a:[b<|im_end|>]';
    expect(marked({ messages, tools: [{ name: 'f' }] }, template)).toEqual([text]);
    expect(marked({ messages, tools: '[{"name": "f"}]' }, template)).toEqual([text]);
  });

  it('everything, by choice: all but the first token, which nothing precedes', () => {
    expect(marked({ messages: TURNS.slice(0, 2) }, OPENED, 'all')).toEqual(['u[:a<|im_end|>a:b<|im_end|>]']);
  });
});

describe('prompt and completion, text', () => {
  it('a completion counts, with the end of the text', () => {
    expect(marked({ prompt: 'a.', completion: 'b' })).toEqual(['a.[b<|im_end|>]']);
  });

  it('a token that joins both counts', () => {
    expect(marked({ prompt: 'a.', completion: '\nb' })).toEqual(['a[.\nb<|im_end|>]']);
  });

  it('lists of messages: the answers of the completion alone', () => {
    const row = { prompt: TURNS.slice(0, 3), completion: TURNS.slice(3) };
    expect(marked(row)).toEqual([CHATML_TURNS.replace('[b<|im_end|>]', 'b<|im_end|>')]);
  });

  it('a text counts', () => {
    expect(marked({ text: 'abc' })).toEqual(['a[bc<|im_end|>]']);
  });
});

it.each([
  [undefined, /it is no JSON$/],
  [[], /it is no JSON object/],
  ['a', /it is no JSON object/],
  [{ message: [] }, /it has neither messages, nor prompt and completion, nor text/],
  [{ messages: [] }, /it is empty/],
  [{ messages: 'a' }, /its messages must be a list of messages/],
  [{ messages: [user('a'), null] }, /message 2 of its messages must be an object with a role/],
  [{ messages: [user('a')] }, /no token of it would be learnt/],
  [{ messages: TURNS, tools: [1] }, /its tools must be a list of objects/],
  [{ messages: TURNS, tools: 'x' }, /its tools must be a list of objects/],
  [{ prompt: 'a' }, /its prompt must be a list of messages/],
  [{ prompt: 'a', completion: '' }, /it is empty/],
  [{ text: '' }, /it is empty/],
])('a row that can not be used says why: %j', (row, message) => {
  expect(() => marked(row)).toThrow(message);
});
