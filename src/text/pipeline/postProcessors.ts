import { invalid, isObject, type Settings } from './settings';

/** The ids before and after a text. */
export interface Around {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const NOTHING: Around = { before: [], after: [] };

/**
 * Reads which ids the post-processor puts around a text.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an unknown type or setting.
 */
export function readPostProcessor(settings: Settings): Around {
  const types = [
    'TemplateProcessing',
    'BertProcessing',
    'RobertaProcessing',
    'ByteLevel',
    'Sequence',
  ] as const;
  switch (settings.oneOf('type', types)) {
    case 'TemplateProcessing':
      return readTemplate(settings);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [idOfPair(settings, 'cls')], after: [idOfPair(settings, 'sep')] };
    case 'ByteLevel':
      return NOTHING; // It only changes offsets.
    case 'Sequence':
      return settings.objects('processors').map(readPostProcessor).reduce(wrap, NOTHING);
  }
}

function wrap(inner: Around, outer: Around): Around {
  return { before: [...outer.before, ...inner.before], after: [...inner.after, ...outer.after] };
}

/** Reads the id from a pair of a token's text and its id. */
function idOfPair(settings: Settings, name: string): number {
  const pair = settings.array(name);
  const id = pair[1];
  if (pair.length === 2 && typeof pair[0] === 'string' && Number.isInteger(id) && (id as number) >= 0) {
    return id as number;
  }
  return settings.refuse(name, 'a pair of a text and an id');
}

function readTemplate(settings: Settings): Around {
  const tokens = settings.object('special_tokens');
  const before: number[] = [];
  const after: number[] = [];
  let texts = 0;
  for (const piece of settings.objects('single')) {
    const [[kind, value] = ['', null], ...more] = piece.entries();
    if (more.length > 0 || !isObject(value))
      throw invalid(`"${piece.path}" must be a Sequence or a SpecialToken`);
    if (kind === 'Sequence') {
      piece.object(kind).oneOf('id', ['A']);
      texts++;
    } else if (kind === 'SpecialToken') {
      const name = piece.object(kind).string('id');
      (texts === 0 ? before : after).push(...idsOf(tokens.object(name)));
    } else throw invalid(`"${piece.path}" must be a Sequence or a SpecialToken`);
  }
  if (texts !== 1) settings.refuse('single', 'a template with one text, Sequence A,');
  return { before, after };
}

function idsOf(token: Settings): number[] {
  const ids = token.array('ids');
  const isId = (id: unknown): id is number => Number.isInteger(id) && (id as number) >= 0;
  return ids.every(isId) ? [...ids] : token.refuse('ids', 'a list of ids');
}
