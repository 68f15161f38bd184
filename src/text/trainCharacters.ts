import { checkOptions } from '../base/checks';
import type { Texts } from './bpe/trainBpe';
import { CHARACTER_MODEL, CHARACTER_SPLIT } from './characterEncoder';
import { HuggingFaceTokenizer } from './huggingFaceTokenizer';
import { cutPieces } from './pieces';
import { turns } from './turns';
import { decodeUtf8 } from './utf8';

export interface CharacterOptions {
  /** Stops the training; the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
}

/**
 * Makes a tokenizer whose tokens are the characters (Unicode code points) of the texts and the newline, which separates
 * documents. Ids are in the order of the code points; there are no special tokens.
 *
 * Encoding refuses other characters (SGEMOE_UNKNOWN_CHARACTER), so decoding is lossless: `decode(encode(text)) === text` for
 * every well-formed text that can be encoded. Bytes that aren't UTF-8 count as U+FFFD.
 *
 * @throws TypeError for other things than texts; the signal's reason.
 */
export async function trainCharacters(
  texts: Texts,
  options: CharacterOptions = {},
): Promise<HuggingFaceTokenizer> {
  checkOptions('trainCharacters', options, ['signal']);
  if (typeof texts === 'string' || texts instanceof Uint8Array) {
    throw new TypeError('trainCharacters: texts must be an iterable of texts, such as [text]');
  }
  const pause = turns(options.signal);
  const characters = new Set(['\n']);
  for await (const text of texts) {
    for (const piece of cutPieces(typeof text === 'string' ? Buffer.from(text, 'utf8') : text)) {
      for (const character of decodeUtf8(piece)) characters.add(character);
      await pause();
    }
  }
  return new HuggingFaceTokenizer(describe([...characters].sort(byCodePoint)), {
    tokenizerConfig: { tokenizer_class: 'PreTrainedTokenizerFast', clean_up_tokenization_spaces: false },
  });
}

function byCodePoint(a: string, b: string): number {
  return a.codePointAt(0)! - b.codePointAt(0)!;
}

/** The content of tokenizer.json: in Hugging Face's libraries, a BPE without merges makes each character a token. */
function describe(characters: readonly string[]): object {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: CHARACTER_SPLIT,
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: { ...CHARACTER_MODEL, vocab: Object.fromEntries(characters.map((each, id) => [each, id])) },
  };
}
