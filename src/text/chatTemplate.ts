import { checkInteger, checkOptions } from '../base/checks';
import { SgemoeError } from '../base/errors';
import { withinTime } from '../base/timeLimit';
import type { ChatMessage } from './chatMessage';
import { loadTemplateLanguage, TemplateProgram } from './templateProgram';
import { showsTools, type ToolCallFormatName, toolCallFormatOf } from './toolCalls/formats';
import { toolsAsText } from './toolCalls/toolsAsText';

export type { ChatMessage };

export interface ChatOptions {
  /** Ends the text with the beginning of an answer, which the model continues. Default false. */
  addGenerationPrompt?: boolean | undefined;
  /** Ends the text with the content of the last message, which the model continues. Default false. */
  continueFinalMessage?: boolean | undefined;
  /** Descriptions of functions that the model may call. A system message has them where the template doesn't know them. */
  tools?: readonly object[] | undefined;
  /** Documents to answer from, where the template knows them. */
  documents?: readonly object[] | undefined;
  /** Name of the template, if there are several. Default: 'tool_use' if there are tools and it exists, else 'default'. */
  template?: string | undefined;
  /** Further variables of the template, such as { enable_thinking: false }. */
  variables?: Readonly<Record<string, unknown>> | undefined;
  /**
   * Two texts, put before and behind what the template marks as the assistant's by `{% generation %}` blocks; without such blocks
   * nothing is put anywhere. Default: none.
   */
  generationMarks?: readonly [string, string] | undefined;
  /** Milliseconds that the template may take, an integer in [1, 2^31). Default 1,000. */
  timeoutMs?: number | undefined;
  /** The largest number of characters (UTF-16 units) of the text, an integer >= 1. Default 2^24. */
  maxCharacters?: number | undefined;
}

const TIMEOUT_MS = 1_000;
const MOST_CHARACTERS = 2 ** 24;

const CHAT_OPTIONS: readonly (keyof ChatOptions)[] = [
  'addGenerationPrompt',
  'continueFinalMessage',
  'tools',
  'documents',
  'template',
  'variables',
  'generationMarks',
  'timeoutMs',
  'maxCharacters',
];

/** Stands behind the content of the last message while it is rendered; private characters, which no text has by chance. */
const CONTENT_END = '\uE5E1\uF5E1\uE5E1';

/** The chat templates of a tokenizer: Jinja, rendered as the Python library does. */
export class ChatTemplates {
  readonly #sources: ReadonlyMap<string, string>;
  readonly #specialTokens: Readonly<Record<string, string>>;
  readonly #parsed = new Map<string, TemplateProgram>();

  /**
   * @param config content of tokenizer_config.json: templates, and the special tokens that they name (bos_token, ...).
   * @param jinja content of chat_template.jinja, which replaces the default template of the config.
   */
  constructor(config: Readonly<Record<string, unknown>>, jinja: string | undefined) {
    const sources = sourcesOf(config.chat_template);
    if (jinja !== undefined) sources.set('default', jinja);
    this.#sources = sources;
    this.#specialTokens = Object.fromEntries(
      Object.entries(config).flatMap(([name, value]) => {
        const content = name.endsWith('_token') ? tokenContent(value) : null;
        return content === null ? [] : [[name, content]];
      }),
    );
  }

  get count(): number {
    return this.#sources.size;
  }

  /** @throws SgemoeError SGEMOE_CHAT_TEMPLATE; TypeError or RangeError for an option. */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    checkOptions('applyChatTemplate', options, CHAT_OPTIONS);
    if (!Array.isArray(messages)) throw new TypeError('applyChatTemplate: messages must be an array');
    checkLimits(options);
    const { tools, continueFinalMessage = false } = options;
    const name = options.template ?? (tools && this.#sources.has('tool_use') ? 'tool_use' : 'default');
    const known = this.#sources.get(name)?.includes('developer') ? messages : withoutDeveloper(messages);
    const render = (shown: readonly ChatMessage[]) => this.#render(name, shown, options);
    const shown = this.#withTools(name, known, tools ?? []);
    return continueFinalMessage ? upToFinalContent(shown, options, render) : render(shown);
  }

  /** The form of the calls that the template for tools teaches; null for one that isn't known. */
  toolCallFormat(hasToken: (text: string) => boolean): ToolCallFormatName | null {
    const source = this.#sources.get('tool_use') ?? this.#sources.get('default') ?? '';
    return toolCallFormatOf(source, hasToken);
  }

  /** The messages with tools, their calls and results as texts, where the template doesn't know them. */
  #withTools(
    name: string,
    messages: readonly ChatMessage[],
    tools: readonly object[],
  ): readonly ChatMessage[] {
    const source = this.#sources.get(name) ?? '';
    const isSilent = tools.length > 0 && !showsTools(source);
    if (!isSilent && source.includes('tool')) return messages;
    return toolsAsText(messages, isSilent ? tools : []);
  }

  #render(name: string, messages: readonly ChatMessage[], options: ChatOptions): string {
    const { addGenerationPrompt = false, tools, documents, variables } = options;
    const { timeoutMs = TIMEOUT_MS, maxCharacters = MOST_CHARACTERS } = options;
    const all = {
      ...this.#specialTokens,
      messages,
      tools: tools ?? null,
      documents: documents ?? null,
      add_generation_prompt: addGenerationPrompt,
      ...variables,
    };
    loadTemplateLanguage();
    const late = () => new Error(`it takes longer than ${timeoutMs} ms`);
    try {
      return withinTime(timeoutMs, () => this.#template(name, options).render(all, maxCharacters), late);
    } catch (cause) {
      if (cause instanceof SgemoeError) throw cause;
      const text = `The chat template "${name}" can not be rendered: ${(cause as Error).message}`;
      throw new SgemoeError('SGEMOE_CHAT_TEMPLATE', text, { cause });
    }
  }

  #template(name: string, { generationMarks }: ChatOptions): TemplateProgram {
    const key = JSON.stringify([name, generationMarks]);
    let template = this.#parsed.get(key);
    if (template === undefined) {
      const source = this.#sources.get(name);
      if (source === undefined) throw noChatTemplate(this.#missing(name));
      template = new TemplateProgram(generationMarks ? withMarks(source, generationMarks) : source);
      this.#parsed.set(key, template);
    }
    return template;
  }

  #missing(name: string): string {
    if (this.#sources.size === 0) {
      return 'The tokenizer has no chat template: neither tokenizer_config.json nor chat_template.jinja gives one.';
    }
    return `The tokenizer has no chat template "${name}", only ${[...this.#sources.keys()].join(', ')}.`;
  }
}

/** The messages with the role 'system' for 'developer'. */
export function withoutDeveloper(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  return messages.map((message) =>
    message?.role === 'developer' ? { ...message, role: 'system' } : message,
  );
}

/**
 * The rendered conversation up to the end of the last message's content. A mark behind the content finds that end, since the
 * content itself may occur again in what the template writes after it.
 * @throws TypeError beside addGenerationPrompt, or for a content that isn't a text; SgemoeError SGEMOE_CHAT_TEMPLATE if the
 * template leaves the content out.
 */
function upToFinalContent(
  messages: readonly ChatMessage[],
  { addGenerationPrompt }: ChatOptions,
  render: (messages: readonly ChatMessage[]) => string,
): string {
  checkContinuation(messages, addGenerationPrompt);
  const last = messages[messages.length - 1];
  const text = render([...messages.slice(0, -1), { ...last, content: last.content + CONTENT_END }]);
  const end = text.lastIndexOf(CONTENT_END);
  if (end >= 0) return text.slice(0, end);
  throw noChatTemplate('The chat template leaves out the last message, which was to be continued.');
}

/** @throws TypeError unless the last message can be continued. */
export function checkContinuation(
  messages: readonly ChatMessage[],
  addGenerationPrompt: boolean | undefined,
): void {
  if (addGenerationPrompt) {
    throw new TypeError('chat: addGenerationPrompt must be false beside continueFinalMessage');
  }
  if (typeof messages[messages.length - 1]?.content === 'string') return;
  throw new TypeError('chat: the last message must have a text as content to be continued');
}

export function noChatTemplate(message: string): SgemoeError {
  return new SgemoeError('SGEMOE_CHAT_TEMPLATE', message);
}

/** The text of a special token in tokenizer_config.json, which is a string or an object with `content`. */
export function tokenContent(value: unknown): string | null {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : null;
}

/** The templates by name, from one template, a list of { name, template }, or an object from name to template. */
function sourcesOf(value: unknown): Map<string, string> {
  if (typeof value === 'string') return new Map([['default', value]]);
  if (typeof value !== 'object' || value === null) return new Map();
  const entries = Array.isArray(value)
    ? value.map((entry) => [entry?.name, entry?.template])
    : Object.entries(value);
  return new Map(
    entries.filter((entry): entry is [string, string] => entry.every((x) => typeof x === 'string')),
  );
}

/**
 * The template with texts in place of its generation tags, which the Jinja package reads over. White space at a tag goes where
 * the package's block tags leave it: that at a line's beginning and one line break behind, or all beside a '-'.
 */
function withMarks(source: string, [begin, end]: readonly [string, string]): string {
  const tag = /(\s*)\{%(-?)\s*(end)?generation\s*(-?)%\}(\s*)/g;
  return source.replace(
    tag,
    (_, before: string, left: string, isEnd: string, right: string, after: string) => {
      const kept = left ? '' : before.replace(/\n[ \t]*$/, '\n');
      const rest = right ? '' : after.replace(/^\n/, '');
      return `${kept}{{ ${JSON.stringify(isEnd ? end : begin)} }}${rest}`;
    },
  );
}

function checkLimits({ timeoutMs = 1, maxCharacters = 1, generationMarks }: ChatOptions): void {
  if (
    generationMarks &&
    !(generationMarks.length === 2 && generationMarks.every((mark) => typeof mark === 'string'))
  ) {
    throw new TypeError('applyChatTemplate: generationMarks must be two texts');
  }
  checkInteger('applyChatTemplate: timeoutMs', timeoutMs, 1);
  checkInteger('applyChatTemplate: maxCharacters', maxCharacters, 1);
  if (timeoutMs < 2 ** 31) return;
  throw new RangeError(`applyChatTemplate: timeoutMs must be an integer in [1, 2^31), got ${timeoutMs}`);
}
