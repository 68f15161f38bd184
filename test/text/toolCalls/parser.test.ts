import { describe, expect, it } from 'vitest';
import type { ToolCallFormatName } from '../../../src/text/toolCalls/formats';
import {
  joinCalls,
  type ParsedAnswer,
  type ToolCallDelta,
  ToolCallParser,
  type ToolCallParserOptions,
} from '../../../src/text/toolCalls/parser';

interface Transcript {
  name: string;
  format: ToolCallFormatName;
  /** What the model wrote, with its special tokens. */
  answer: string;
  text: string;
  calls: [name: string, args: string, id?: string][];
}

const ROME = '{"city": "Rome", "unit": "c"}';
const NESTED = '{"a": [1, {"b": "} ] \\" </tool_call> {"}], "é": "日本 😀"}';

/** Answers as models of the families write them. */
const TRANSCRIPTS: Transcript[] = [
  {
    name: 'Qwen: text, then two calls',
    format: 'hermes',
    answer: `I'll look.\n\n<tool_call>\n{"name": "weather", "arguments": ${ROME}}\n</tool_call>\n<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>`,
    text: "I'll look.",
    calls: [
      ['weather', ROME],
      ['time', '{}'],
    ],
  },
  {
    name: 'Hermes: text after a call, nested arguments',
    format: 'hermes',
    answer: `<tool_call>\n{"arguments": ${NESTED}, "name": "f"}\n</tool_call>\nDone < now.`,
    text: 'Done < now.',
    calls: [['f', NESTED]],
  },
  {
    name: 'Qwen with thoughts, arguments as JSON in a text',
    format: 'hermes',
    answer: `<think>\nhm <tool\n</think>\n\n<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>`,
    text: '<think>\nhm <tool\n</think>',
    calls: [['f', '{"a": 1}']],
  },
  {
    name: 'Qwen3-Coder: text, then two calls',
    format: 'qwen3-coder',
    answer:
      "I'll look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=time>\n</function>\n</tool_call>",
    text: "I'll look.",
    calls: [
      ['weather', '{"city": "Rome", "days": 2}'],
      ['time', '{}'],
    ],
  },
  {
    name: 'Qwen3-Coder: without marks, a value with markup, text behind',
    format: 'qwen3-coder',
    answer:
      '<function=f><parameter=code>\n\n<p>é</parameter></p>\n</parameter>\n<parameter=city>Oslo</parameter></function>\n</tool_call>\nDone < now.',
    text: 'Done < now.',
    calls: [['f', '{"code": "\\n<p>é</parameter></p>", "city": "Oslo"}']],
  },
  {
    name: 'Mistral: a list',
    format: 'mistral-list',
    answer: `[TOOL_CALLS] [{"name": "weather", "arguments": ${ROME}}, {"name": "time", "arguments": {}}]`,
    text: '',
    calls: [
      ['weather', ROME],
      ['time', '{}'],
    ],
  },
  {
    name: 'Mistral: a list with ids',
    format: 'mistral-list',
    answer: `Sure.[TOOL_CALLS][{"name": "weather", "arguments": ${ROME}, "id": "VvvODy9mT"}]`,
    text: 'Sure.',
    calls: [['weather', ROME, 'VvvODy9mT']],
  },
  {
    name: 'Mistral: names before arguments',
    format: 'mistral-args',
    answer: `Both.[TOOL_CALLS]weather[ARGS]${ROME}[TOOL_CALLS]get-time[ARGS]{"id": "x"}`,
    text: 'Both.',
    calls: [
      ['weather', ROME],
      ['get-time', '{"id": "x"}'],
    ],
  },
  {
    name: 'Mistral: names, ids and arguments',
    format: 'mistral-args',
    answer: `[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]${ROME}`,
    text: '',
    calls: [['weather', ROME, 'abcdefghi']],
  },
  {
    name: 'Granite 3',
    format: 'granite',
    answer: `<|tool_call|>[{"name": "weather", "arguments": ${ROME}}]`,
    text: '',
    calls: [['weather', ROME]],
  },
  {
    name: 'Granite 3: the other mark',
    format: 'granite',
    answer: `<tool_call>[{"name": "weather", "arguments": ${ROME}}, {"arguments": null, "name": "g"}]`,
    text: '',
    calls: [
      ['weather', ROME],
      ['g', '{}'],
    ],
  },
  {
    name: 'Llama 3',
    format: 'llama3',
    answer: `{"name": "weather", "parameters": ${ROME}}`,
    text: '',
    calls: [['weather', ROME]],
  },
  {
    name: 'Llama 3: after its mark, several',
    format: 'llama3',
    answer: `<|python_tag|>{"type": "function", "name": "weather", "parameters": ${ROME}}; {"name": "time", "parameters": {}}`,
    text: '',
    calls: [
      ['weather', ROME],
      ['time', '{}'],
    ],
  },
];

/** Answers that have no call, though they look like it. */
const PLAIN: [format: ToolCallFormatName, answer: string][] = [
  ['hermes', ' plain text, 1 < 2 and <tool> \n'],
  ['hermes', '<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>'],
  ['hermes', '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>'],
  ['hermes', '<tool_call>{"arguments": {}}</tool_call>'],
  ['hermes', '<tool_call>f(1)</tool_call> so'],
  ['hermes', 'see <tool_call>{"name": "f", "argum'],
  ['hermes', '<tool_call>\n{"name": "f", "arguments": {"a": "line\nbreak"}}\n</tool_call>'],
  ['qwen3-coder', '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'],
  ['qwen3-coder', '<tool_call>\n<function=f>\nnone\n</function>\n</tool_call> so'],
  ['qwen3-coder', '<function=a b></function> and <func'],
  ['qwen3-coder', '<function=></function>'],
  ['qwen3-coder', '<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>'],
  ['qwen3-coder', 'see <tool_call><function=f><parameter=a>1</param'],
  ['mistral-list', '[TOOL_CALLS] none of [them]'],
  ['mistral-list', 'x[TOOL_CALLS] ["a"]'],
  ['mistral-args', '[TOOL_CALLS]weather[ARGS]none'],
  ['mistral-args', '[TOOL_CALLS]weather[ARGS'],
  ['granite', '<|tool_call|>{"name": 1}'],
  ['llama3', '{"answer": 42}'],
  ['llama3', '  {"name": "unheard_of", "parameters": {}}'],
  ['llama3', '<|python_tag|>print("hi")'],
  ['llama3', '<|python_tag|>'],
];

const NAMES = new Set(['weather', 'time', 'f', 'g']);
const PARAMETERS = new Map([
  ['weather', { type: 'object', properties: { city: {}, days: { type: 'integer' } } }],
]);

function parse(pieces: readonly string[], options: ToolCallParserOptions) {
  const parser = new ToolCallParser({ names: NAMES, parameters: PARAMETERS, ...options });
  const outs = [...pieces.map((piece) => parser.push(piece)), parser.flush()];
  const calls: ToolCallDelta[] = [];
  for (const out of outs) joinCalls(calls, out.calls);
  return { outs, text: outs.map(({ text }) => text).join(''), calls };
}

/** The text cut in two at each of its characters' bytes (a character in one piece), and all characters alone. */
function* cuts(text: string): Generator<string[]> {
  const characters = Array.from(text);
  for (let i = 0; i <= characters.length; i++) {
    yield [characters.slice(0, i).join(''), characters.slice(i).join('')];
  }
  yield characters;
}

const EAGER = { onArguments: () => true };

describe('a parser of tool calls', () => {
  describe.each([
    ['that holds calls back', {}],
    ['that gives arguments out as they come', EAGER],
  ])('%s', (_, how) => {
    it.each(TRANSCRIPTS)('reads $name, wherever it is cut', ({ format, answer, text, calls }) => {
      for (const pieces of cuts(answer)) {
        const parsed = parse(pieces, { format, ...how });
        expect(parsed.text).toBe(text);
        expect(parsed.calls.map((call) => [call.name, call.arguments])).toEqual(
          calls.map(([name, args]) => [name, args]),
        );
        expect(parsed.calls.map(({ index }) => index)).toEqual(calls.map((_each, i) => i));
        for (const [i, [, , id]] of calls.entries()) {
          const isMistral = format.startsWith('mistral');
          const held = how !== EAGER || format === 'mistral-args';
          if (id !== undefined && held) expect(parsed.calls[i].id).toBe(id);
          else expect(parsed.calls[i].id).toMatch(isMistral ? /^[A-Za-z0-9]{9}$/ : /^call_[A-Za-z0-9]{24}$/);
        }
        checkDeltas(parsed.outs);
      }
    });
  });

  it.each(PLAIN)('gives what is no call back as text: %s, %j', (format, answer) => {
    for (const pieces of cuts(answer)) {
      expect(parse(pieces, { format })).toMatchObject({ text: answer, calls: [] });
    }
  });

  it('goes on after a call that is none, and finds the next one', () => {
    const bad = '<tool_call>{"name": "f", "arguments": {"a": oops}}</tool_call>';
    const good = '<tool_call>{"name": "f", "arguments": {}}</tool_call>';
    for (const pieces of cuts(`${bad}\n${good}`)) {
      const { text, calls } = parse(pieces, { format: 'hermes' });
      expect(text).toBe(bad);
      expect(calls).toMatchObject([{ name: 'f', arguments: '{}' }]);
    }
  });

  it.each<[schema: object | undefined, written: string, json: string]>([
    [{ type: 'string' }, '42', '"42"'],
    [{ type: 'string' }, '\n two\nlines \n', '" two\\nlines "'],
    [{ type: 'string' }, '"quoted"', '"\\"quoted\\""'],
    [{ enum: ['1', '2'] }, '1', '"1"'],
    [{ const: 'null' }, 'null', '"null"'],
    [{ type: 'integer' }, '\n42\n', '42'],
    [{ type: 'integer' }, '12345678901234567890', '12345678901234567890'],
    [{ type: 'integer' }, 'many', '"many"'],
    [{ type: 'boolean' }, 'True', 'true'],
    [{ type: ['string', 'null'] }, 'None', 'null'],
    [{ anyOf: [{ type: 'number' }, { type: 'string' }] }, '1.5', '1.5'],
    [{ anyOf: [{ type: 'number' }, { type: 'string' }] }, 'true', '"true"'],
    [{ type: 'object' }, '{"a": [1]}', '{"a": [1]}'],
    [{ $ref: '#/$defs/x' }, '[1, "b"]', '[1, "b"]'],
    [{}, 'Rome', '"Rome"'],
    [undefined, '42', '"42"'],
  ])(
    'takes an argument of schema %j, written %j, as %s where calls are elements',
    (schema, written, json) => {
      const properties = schema && { a: schema };
      const { calls } = parse([`<function=f><parameter=a>${written}</parameter></function>`], {
        format: 'qwen3-coder',
        parameters: new Map([['f', { type: 'object', properties }]]),
      });
      expect(calls.map((call) => call.arguments)).toEqual([`{"a": ${json}}`]);
    },
  );

  it('asks once for each call whether its arguments may go out, with all of them so far', () => {
    const asked: unknown[] = [];
    const onArguments = (...what: unknown[]) => asked.push(what) > 1;
    const parser = new ToolCallParser({ format: 'hermes', onArguments });
    const pieces = [
      '<tool_call>{"name": "f", "arg',
      'uments": {"a',
      '": 1',
      '}}</tool_call><tool_call>{"name": "g", "arguments": {"b": ',
      '2}',
    ];
    const outs = pieces.map((piece) => parser.push(piece).calls);
    expect(asked).toEqual([
      ['f', '{"a'],
      ['g', '{"b": '],
    ]);
    expect(outs).toMatchObject([
      [],
      [],
      [],
      [
        { index: 0, name: 'f', arguments: '{"a": 1}' },
        { index: 1, name: 'g', arguments: '' },
        { index: 1, name: null, arguments: '{"b": ' },
      ],
      [{ index: 1, id: null, name: null, arguments: '2}' }],
    ]);
    expect(parser.completed).toBe(1);
    expect(parser.flush()).toEqual({ text: '', calls: [] });
  });

  it('never takes a call by its arguments alone where no mark announces it', () => {
    const { text, calls } = parse(['{"name": "rome", "parameters": {"a":', ' 1}}'], {
      format: 'llama3',
      ...EAGER,
    });
    expect([text, calls]).toEqual(['{"name": "rome", "parameters": {"a": 1}}', []]);
  });
});

/** The id and the name come first, once for each call. */
function checkDeltas(outs: readonly ParsedAnswer[]): void {
  const seen = new Set<number>();
  for (const { index, id, name } of outs.flatMap(({ calls }) => calls)) {
    expect([id !== null, name !== null]).toEqual([!seen.has(index), !seen.has(index)]);
    seen.add(index);
  }
}
