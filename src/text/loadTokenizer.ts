import { SgemoeError } from '../base/errors';
import type { TokenizerFiles } from '../checkpoint/tokenizerFiles';
import { BYTE_VOCAB_SIZE, ByteTokenizer } from './byteTokenizer';
import { HuggingFaceTokenizer } from './huggingFaceTokenizer';
import type { Tokenizer } from './tokenizer';

/**
 * The tokenizer that a parsed tokenizer.json describes: `{ "type": "byte", "vocab_size": 256 }`, or any file of Hugging
 * Face's tokenizers libraries (it has a "model").
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID when it describes neither, or something that isn't supported.
 */
export function loadTokenizer(json: unknown, files: Omit<TokenizerFiles, 'tokenizer'> = {}): Tokenizer {
  const description = asObject(json);
  if ('model' in description) return new HuggingFaceTokenizer(description, files);
  if (description.type !== 'byte') {
    throw invalid(
      `tokenizer.json must have a "model", or a "type" that this version knows ("byte"), got ${show(description.type)}`,
    );
  }
  if (description.vocab_size !== BYTE_VOCAB_SIZE) {
    throw invalid(
      `tokenizer.json of type "byte" must have "vocab_size" ${BYTE_VOCAB_SIZE}, ` +
        `got ${show(description.vocab_size)}`,
    );
  }
  return new ByteTokenizer();
}

function asObject(json: unknown): Record<string, unknown> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>;
  throw invalid(`tokenizer.json must hold a JSON object, got ${show(json)}`);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function invalid(message: string): SgemoeError {
  return new SgemoeError('SGEMOE_TOKENIZER_INVALID', message);
}
