import { SgemoeError } from '../../base/errors';
import type { Tokenizer } from '../../text/tokenizer';
import type { TextSource } from './messages';
import { PLAIN_CHAT_STOP, plainChat } from './plainChat';

export interface Prompt {
  ids: Int32Array;
  /** A stop text that belongs to the way the prompt is written. */
  stop: string | null;
}

/** The ids of what a request gives. @throws SgemoeError as the tokenizer, or when there is none to turn text into ids. */
export function readPrompt(source: TextSource, tokenizer: Tokenizer | null): Prompt {
  if ('ids' in source) return { ids: source.ids, stop: null };
  const known = needTokenizer(tokenizer);
  if ('text' in source) {
    const { text, addSpecialTokens } = source;
    return { ids: known.encode(text, { addSpecialTokens }), stop: null };
  }
  const { messages, chat } = source;
  const { addGenerationPrompt = true } = chat;
  if (known.hasChatTemplate) {
    const text = known.applyChatTemplate(messages, { ...chat, addGenerationPrompt });
    return { ids: known.encode(text), stop: null };
  }
  const text = plainChat(messages, addGenerationPrompt);
  return { ids: known.encode(text, { addSpecialTokens: true }), stop: PLAIN_CHAT_STOP };
}

export function needTokenizer(tokenizer: Tokenizer | null): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new SgemoeError(
    'SGEMOE_TOKENIZER_INVALID',
    'The model has no tokenizer: it takes token ids, not text.',
  );
}
