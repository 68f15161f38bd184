import { SgemoeError } from '../../base/errors';
import { readModelTokenizer } from '../../hf/adapterBase';
import { loadTokenizer } from '../../text/loadTokenizer';
import type { Tokenizer } from '../../text/tokenizer';

/** The tokenizer of a model, or of a folder of adapters or its base. @throws SgemoeError SGEMOE_TOKENIZER_INVALID if there is none. */
export async function tokenizerOf(dir: string): Promise<Tokenizer> {
  const { tokenizer, ...beside } = await readModelTokenizer(dir);
  if (tokenizer !== null) return loadTokenizer(tokenizer, beside);
  throw new SgemoeError('SGEMOE_TOKENIZER_INVALID', `There is no tokenizer at ${dir}.`);
}
