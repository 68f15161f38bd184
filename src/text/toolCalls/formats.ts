/** The forms in which families of models write calls of functions. */
import { FUNCTION } from './elements';

export type ToolCallFormatName =
  | 'hermes'
  | 'qwen3-coder'
  | 'mistral-list'
  | 'mistral-args'
  | 'granite'
  | 'llama3';

/** How a call is read, and how one is written where the form of the answer is prescribed. */
export interface ToolCallFormat {
  /** Texts that announce calls. JSON of one call or of a list of them follows, or a call's elements. */
  readonly marks: readonly string[];
  /** The text after a call, or after the list; '' for none. */
  readonly close: string;
  /** Whether an answer that begins with '{' is a call, too. */
  readonly bare: boolean;
  /** Whether the function's name may stand before its arguments, which are then all of the JSON. */
  readonly named: boolean;
  /** Whether calls are elements, as in elements.ts, not JSON. */
  readonly elements: boolean;
  /** Length of the ids that are made for calls, which `idPrefix` begins: Mistral's templates take no others. */
  readonly idPrefix: string;
  readonly idLength: number;
  /**
   * What stands before all calls, before and after the JSON of a name, after the arguments, between and after all calls; null
   * where arguments aren't JSON, so that no form of an answer can be prescribed.
   */
  readonly written: WrittenCalls | null;
}

export interface WrittenCalls {
  readonly open: string;
  readonly name: readonly [before: string, after: string];
  /** Whether the name is written as JSON. */
  readonly quoted: boolean;
  readonly end: string;
  readonly between: string;
  readonly close: string;
  /** Whether there may be more than one call. */
  readonly several: boolean;
}

const ID = { elements: false, idPrefix: 'call_', idLength: 29 };
const MISTRAL_ID = { elements: false, idPrefix: '', idLength: 9 };
const JSON_CALL = { name: ['{"name": ', ', "arguments": '], quoted: true, end: '}' } as const;

export const TOOL_CALL_FORMATS: Readonly<Record<ToolCallFormatName, ToolCallFormat>> = {
  /** Hermes, Qwen 2.5 and 3, Granite 4: `<tool_call>{"name": ..., "arguments": ...}</tool_call>`, one for each call. */
  hermes: {
    ...ID,
    marks: ['<tool_call>'],
    close: '</tool_call>',
    bare: false,
    named: false,
    written: {
      ...JSON_CALL,
      open: '',
      name: ['<tool_call>\n{"name": ', ', "arguments": '],
      end: '}\n</tool_call>',
      between: '\n',
      close: '',
      several: true,
    },
  },
  /** Qwen3-Coder: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`, the marks left out at times. */
  'qwen3-coder': {
    ...ID,
    marks: ['<tool_call>', FUNCTION],
    close: '</tool_call>',
    bare: false,
    named: true,
    elements: true,
    written: null,
  },
  /** Mistral and Mixtral: `[TOOL_CALLS] [{"name": ..., "arguments": ...}, ...]`. */
  'mistral-list': {
    ...MISTRAL_ID,
    marks: ['[TOOL_CALLS]'],
    close: '',
    bare: false,
    named: true,
    written: { ...JSON_CALL, open: '[TOOL_CALLS][', between: ', ', close: ']', several: true },
  },
  /** Later Mistral models: `[TOOL_CALLS]name[ARGS]{...}` for each call, with `[CALL_ID]id` between in some. */
  'mistral-args': {
    ...MISTRAL_ID,
    marks: ['[TOOL_CALLS]'],
    close: '',
    bare: false,
    named: true,
    written: {
      open: '',
      name: ['[TOOL_CALLS]', '[ARGS]'],
      quoted: false,
      end: '',
      between: '',
      close: '',
      several: true,
    },
  },
  /** Granite 3: `<|tool_call|>[{"name": ..., "arguments": ...}, ...]`. */
  granite: {
    ...ID,
    marks: ['<|tool_call|>', '<tool_call>'],
    close: '</tool_call>',
    bare: false,
    named: false,
    written: { ...JSON_CALL, open: '<|tool_call|>[', between: ', ', close: ']', several: true },
  },
  /** Llama 3.1 and later: the answer is `{"name": ..., "parameters": ...}`, after `<|python_tag|>` at times; one call. */
  llama3: {
    ...ID,
    marks: ['<|python_tag|>'],
    close: '',
    bare: true,
    named: false,
    written: {
      ...JSON_CALL,
      open: '',
      name: ['{"name": ', ', "parameters": '],
      between: '',
      close: '',
      several: false,
    },
  },
};

export const TOOL_CALL_FORMAT_NAMES = Object.keys(TOOL_CALL_FORMATS) as ToolCallFormatName[];

/** Texts in calls that are special tokens of some tokenizers. */
export const TOOL_CALL_MARKS = [
  '<tool_call>',
  '</tool_call>',
  '[TOOL_CALLS]',
  '[ARGS]',
  '[CALL_ID]',
  '<|tool_call|>',
  '<|python_tag|>',
] as const;

/** Texts of chat templates that tell a form, in the order in which they are looked for. */
const TELLING: readonly (readonly [text: string, format: ToolCallFormatName | null])[] = [
  ['<parameter=', 'qwen3-coder'],
  // Others write JSON within the element, which no parser here reads.
  ['<function=', null],
  ['[ARGS]', 'mistral-args'],
  ['[TOOL_CALLS]', 'mistral-list'],
  ['<|tool_call|>', 'granite'],
  ['<tool_call>', 'hermes'],
  ['<|python_tag|>', 'llama3'],
  ['"parameters":', 'llama3'],
  ["'parameters':", 'llama3'],
];

/** Special tokens that tell a form where the template doesn't. */
const TELLING_TOKENS: readonly (readonly [text: string, format: ToolCallFormatName])[] = [
  ['[ARGS]', 'mistral-args'],
  ['[TOOL_CALLS]', 'mistral-list'],
  ['<|tool_call|>', 'granite'],
  ['<tool_call>', 'hermes'],
  ['<|python_tag|>', 'llama3'],
];

/** Whether a template shows tools at all; where none does, `toolsAsText` does it. */
export function showsTools(template: string): boolean {
  return /\btools\b/.test(template);
}

/**
 * The form of the calls that a chat template teaches; null for one that isn't known.
 * @param hasToken whether the tokenizer has such a token.
 */
export function toolCallFormatOf(
  template: string,
  hasToken: (text: string) => boolean,
): ToolCallFormatName | null {
  // `toolsAsText` writes them in this form.
  if (!showsTools(template)) return 'hermes';
  const told = TELLING.find(([text]) => template.includes(text));
  return told !== undefined ? told[1] : (TELLING_TOKENS.find(([text]) => hasToken(text))?.[1] ?? null);
}
