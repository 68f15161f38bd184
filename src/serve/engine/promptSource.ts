import { SgemoeError } from '../../base/errors';
import { infillPrompt, infillTokens } from '../../text/infill';
import type { Tokenizer } from '../../text/tokenizer';
import type { TextSource } from './messages';
import { PLAIN_CHAT_STOP, plainChat } from './plainChat';

export interface Prompt {
  ids: Int32Array;
  /** A stop text that the form of the prompt needs; null for none. */
  stop: string | null;
}

/** The prompt of a request as ids. @throws SgemoeError as the tokenizer, or if text arrives and there is no tokenizer. */
export function readPrompt(source: TextSource, tokenizer: Tokenizer | null): Prompt {
  if ('ids' in source) return { ids: source.ids, stop: null };
  const known = needTokenizer(tokenizer);
  if ('text' in source) {
    const { text, suffix, addSpecialTokens } = source;
    const whole = suffix === undefined ? text : infillPrompt(needInfillTokens(known), text, suffix);
    return { ids: known.encode(whole, { addSpecialTokens }), stop: null };
  }
  const { messages, chat } = source;
  const { addGenerationPrompt = !chat.continueFinalMessage } = chat;
  if (known.hasChatTemplate) {
    const text = known.applyChatTemplate(messages, { ...chat, addGenerationPrompt });
    return { ids: known.encode(text), stop: null };
  }
  const text = plainChat(messages, chat);
  return { ids: known.encode(text, { addSpecialTokens: true }), stop: PLAIN_CHAT_STOP };
}

/** @throws RangeError for a tokenizer without tokens for filling gaps. */
export function needInfillTokens(tokenizer: Tokenizer) {
  const tokens = infillTokens(tokenizer);
  if (tokens !== null) return tokens;
  const message =
    'suffix must be absent: the tokenizer has no tokens for filling gaps, such as <|fim_prefix|>';
  throw new RangeError(message);
}

export function needTokenizer(tokenizer: Tokenizer | null): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new SgemoeError(
    'SGEMOE_TOKENIZER_INVALID',
    'The model has no tokenizer: it takes token ids, not text.',
  );
}
