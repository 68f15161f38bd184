import { readBpe } from './bpeModel';
import type { Settings } from './settings';
import { readUnigram } from './unigramModel';
import type { Model } from './vocabulary';
import { readWordLevel, readWordPiece } from './wordModels';

const MODELS = { BPE: readBpe, WordPiece: readWordPiece, WordLevel: readWordLevel, Unigram: readUnigram };

/** @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an unknown type or setting. */
export function readModel(settings: Settings): Model {
  const types = Object.keys(MODELS) as (keyof typeof MODELS)[];
  return MODELS[settings.oneOf('type', types, typeOf(settings))](settings);
}

/** The type of a model, inferred for old files, which have none. */
function typeOf(settings: Settings): keyof typeof MODELS {
  if (settings.has('merges')) return 'BPE';
  if (settings.has('unk_id')) return 'Unigram';
  return settings.has('continuing_subword_prefix') ? 'WordPiece' : 'WordLevel';
}
