import { SgemoeError } from '../../base/errors';
import { infillTokens } from '../../text/infill';
import type { Tokenizer } from '../../text/tokenizer';

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
