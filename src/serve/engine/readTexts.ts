/** What the text thread does: it turns the texts of requests into ids, and compiles their constraints. */
import { SgemoeError } from '../../base/errors';
import { withinTime } from '../../base/timeLimit';
import { compileConstraint } from '../../sampling/constraints/compile';
import type { CompiledConstraint } from '../../sampling/constraints/constraint';
import { packGrammar } from '../../sampling/constraints/grammarData';
import type { ConstraintSource } from '../../sampling/constraints/options';
import { packVocabulary, type VocabularyData } from '../../sampling/constraints/vocabularyData';
import { infillPrompt } from '../../text/infill';
import type { Tokenizer } from '../../text/tokenizer';
import { constraintBytes } from '../../text/toolCalls/marks';
import type { Prompt, TextLimits, TextResult, TextSource, TextTask } from './messages';
import { PLAIN_CHAT_STOP, plainChat } from './plainChat';
import { needInfillTokens, needTokenizer } from './promptSource';

/** Texts longer than this many contexts aren't counted to their end. */
const MOST_CONTEXTS = 4;

/**
 * Prompts as ids, or the text of ids. @throws SgemoeError as the tokenizer; SGEMOE_CONTEXT_FULL for a text that can't fit,
 * SGEMOE_TEXT_LIMIT for one that takes too long.
 */
export function readTexts(task: TextTask, tokenizer: Tokenizer | null, limits: TextLimits): TextResult {
  if (task.kind === 'detokenize') {
    const { ids, skipSpecialTokens } = task;
    return { text: inTime(limits, () => needTokenizer(tokenizer).decode(ids, { skipSpecialTokens })) };
  }
  const rendered = task.sources.map((source) => render(source, tokenizer, limits));
  const compiled = task.constraints.map((source) => compile(source, limits));
  return {
    compiled,
    vocabulary: task.wantsVocabulary ? vocabularyOf(needTokenizer(tokenizer)) : null,
    prompts: inTime(limits, () => rendered.map((each) => encode(each, tokenizer, task.context))),
  };
}

/** @throws SgemoeError SGEMOE_CONTEXT_FULL for a text that has too many tokens, whatever they are. */
export function refuseTooLong(text: string, mostBytesPerToken: number, context: number): void {
  const tokens = Math.ceil(Buffer.byteLength(text) / mostBytesPerToken);
  if (tokens > context) throw tooLong('at least', tokens, context);
}

type Rendered = { ids: Int32Array } | { text: string; addSpecialTokens: boolean; stop: string | null };

function render(
  source: TextSource,
  tokenizer: Tokenizer | null,
  { templateTimeoutMs }: TextLimits,
): Rendered {
  if ('ids' in source) return source;
  const known = needTokenizer(tokenizer);
  if ('text' in source) {
    const { text, suffix, addSpecialTokens } = source;
    const whole = suffix === undefined ? text : infillPrompt(needInfillTokens(known), text, suffix);
    return { text: whole, addSpecialTokens, stop: null };
  }
  const { messages, chat } = source;
  if (!known.hasChatTemplate) {
    return { text: plainChat(messages, chat), addSpecialTokens: true, stop: PLAIN_CHAT_STOP };
  }
  const { addGenerationPrompt = !chat.continueFinalMessage, timeoutMs = templateTimeoutMs } = chat;
  const options = { ...chat, addGenerationPrompt, timeoutMs: Math.min(timeoutMs, templateTimeoutMs) };
  return { text: known.applyChatTemplate(messages, options), addSpecialTokens: false, stop: null };
}

function encode(rendered: Rendered, tokenizer: Tokenizer | null, context: number): Prompt {
  if ('ids' in rendered) return { ids: rendered.ids, stop: null };
  const { text, addSpecialTokens, stop } = rendered;
  const known = needTokenizer(tokenizer);
  refuseTooLong(text, known.mostBytesPerToken, context);
  if (!Number.isFinite(context)) return { ids: known.encode(text, { addSpecialTokens }), stop };
  const mostTokens = MOST_CONTEXTS * context;
  const ids = known.encode(text, { addSpecialTokens, mostTokens });
  if (ids.length > mostTokens) throw tooLong('more than', mostTokens, context);
  return { ids, stop };
}

const vocabularies = new WeakMap<Tokenizer, VocabularyData>();

function vocabularyOf(tokenizer: Tokenizer): VocabularyData {
  let vocabulary = vocabularies.get(tokenizer);
  if (vocabulary === undefined) {
    vocabulary = packVocabulary(constraintBytes(tokenizer));
    vocabularies.set(tokenizer, vocabulary);
  }
  return vocabulary;
}

/** Constraints that were compiled last; clients send the same ones again and again. */
const compiledLast = new Map<string, CompiledConstraint>();
const MOST_COMPILED = 16;

function compile(source: ConstraintSource, { templateTimeoutMs }: TextLimits): CompiledConstraint {
  const key = `${source.kind}:${source.text}`;
  let compiled = compiledLast.get(key);
  if (compiled === undefined) {
    const run = () => ({ source, grammar: packGrammar(compileConstraint(source)) });
    compiled = withinTime(templateTimeoutMs, run, () => {
      const message = `The constraint takes longer than ${templateTimeoutMs} ms to be compiled.`;
      return new SgemoeError('SGEMOE_CONSTRAINT_LIMIT', message);
    });
  }
  compiledLast.delete(key);
  compiledLast.set(key, compiled);
  if (compiledLast.size > MOST_COMPILED) compiledLast.delete(compiledLast.keys().next().value!);
  return compiled;
}

function tooLong(how: string, tokens: number, context: number): SgemoeError {
  return new SgemoeError(
    'SGEMOE_CONTEXT_FULL',
    `The text has ${how} ${tokens} tokens; the context has room for ${context}.`,
  );
}

function inTime<T>({ tokenizeTimeoutMs }: TextLimits, run: () => T): T {
  return withinTime(tokenizeTimeoutMs, run, () => {
    const message = `The text of the request takes longer than ${tokenizeTimeoutMs} ms to be tokenized.`;
    return new SgemoeError('SGEMOE_TEXT_LIMIT', message);
  });
}
