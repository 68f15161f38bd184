import { SgemoeError } from '../../base/errors';
import type { NextTokenModel } from '../../sampling/nextToken';
import type { Tokenizer } from '../../text/tokenizer';

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID if a folder's tokenizer has tokens outside the vocabulary of its model. */
export function requireOneCheckpoint(
  dir: string,
  model: Pick<NextTokenModel, 'vocabSize'>,
  tokenizer: Pick<Tokenizer, 'vocabSize'>,
): void {
  if (tokenizer.vocabSize <= model.vocabSize) return;
  throw new SgemoeError(
    'SGEMOE_TOKENIZER_INVALID',
    `The tokenizer in ${dir} has ${tokenizer.vocabSize} tokens, its model ${model.vocabSize}: ` +
      'the folder mixes two checkpoints.',
  );
}
