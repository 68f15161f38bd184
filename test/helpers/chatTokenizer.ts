import { loadTokenizer, type Tokenizer } from '../../src';
import { BYTE_CHARACTERS } from '../../src/base/byteAlphabet';
import { PLAIN_BPE } from '../../src/checkpoint/plainBpe';

export const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** A tokenizer of bytes, with one merge ('.\n'), the special tokens of ChatML, and a chat template. Vocabulary: 260. */
export function chatTokenizer(template: string | undefined = CHATML): Tokenizer {
  const [dot, newline] = [BYTE_CHARACTERS[0x2e], BYTE_CHARACTERS[0x0a]];
  const vocab = Object.fromEntries([...BYTE_CHARACTERS, dot + newline].map((token, id) => [token, id]));
  const added_tokens = ['<|im_start|>', '<|im_end|>', '<|endoftext|>'].map((content, i) => ({
    id: 257 + i,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  return loadTokenizer(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens,
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        ...PLAIN_BPE,
        vocab,
        merges: [`${dot} ${newline}`],
      },
    },
    { tokenizerConfig: { chat_template: template, eos_token: '<|im_end|>' } },
  );
}
