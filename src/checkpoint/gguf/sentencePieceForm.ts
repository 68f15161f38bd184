import { quoteName } from '../safetensorsHeader';
import { SPACE_SIGN } from './sentencePiece';
import { type AddedToken, type Json, mergePairs, noForm, stagesOf } from './tokenizerJson';

/** What the `llama` kind of a GGUF says of a tokenizer.json; the inverse of `sentencePieceParts`. */
export interface SentencePieceForm {
  /** The score of each token. Of two neighbours that join to a token, those of the highest score merge first. */
  readonly scores: Float32Array;
  /** Ids of the tokens of single bytes. */
  readonly bytes: readonly number[];
  readonly unknown: number | null;
  /** Whether a text begins with a space of its own. */
  readonly addsSpace: boolean;
  /** What llama.cpp does otherwise; null where ids are equal for every text. */
  readonly note: string | null;
}

/**
 * The form of a BPE whose characters fall back on bytes. llama.cpp merges any two neighbours that join to a token, in the
 * order of that token's score. So the merges must be all pairs that make a token, and those of a token one behind another.
 * @throws RangeError with what a score can't say, or what else has no place there.
 */
export function sentencePieceForm(json: Json, vocabSize: number): SentencePieceForm {
  const model = json.model as Json;
  if (model.ignore_merges) throw noForm('it takes words that are tokens whole, whatever the merges');
  const vocab = new Map(Object.entries(model.vocab as Record<string, number>));
  const spaces = spacesOf(json);
  refuseNormalized(json, spaces.byNormalizer);
  const names = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const bytes = names.map((name) => vocab.get(name) ?? refuseMissing(name));
  // Added tokens are found before anything merges, and bytes merge with nothing.
  const pieces = new Map(vocab);
  for (const name of [...names, ...addedTokens(json).map(({ content }) => content)]) pieces.delete(name);
  if (spaces.splits) refuseInnerSpaces(pieces);
  return {
    scores: scoresOf(json, pieces, vocabSize),
    bytes,
    unknown: vocab.get(model.unk_token as string) ?? null,
    addsSpace: spaces.adds,
    note: spaces.note,
  };
}

function addedTokens(json: Json): readonly AddedToken[] {
  return (json.added_tokens ?? []) as AddedToken[];
}

function refuseMissing(name: string): never {
  throw noForm(`it has no token ${name}, so not every character falls back on bytes`);
}

interface Spaces {
  /** Whether a space is put in front of a text. */
  adds: boolean;
  byNormalizer: boolean;
  /** Whether no token goes across a space. */
  splits: boolean;
  note: string | null;
}

/** How the file writes spaces. @throws RangeError for other stages. */
function spacesOf(json: Json): Spaces {
  const normalizers = stagesOf(json.normalizer, 'normalizers');
  const preTokenizers = stagesOf(json.pre_tokenizer, 'pretokenizers');
  const [space, ...before] = [...normalizers].reverse();
  const replaces = space?.type === 'Replace' && isReplace(space, ' ', SPACE_SIGN);
  const prepends = before.length === 1 && before[0].type === 'Prepend' && before[0].prepend === SPACE_SIGN;
  const [meta] = preTokenizers;
  let spaces: Spaces;
  if (replaces && preTokenizers.length === 0 && (prepends || before.length === 0))
    spaces = { adds: prepends, byNormalizer: prepends, splits: false, note: null };
  else if (normalizers.length === 0 && preTokenizers.length === 1 && isMetaspace(meta))
    spaces = metaspaceOf(meta);
  else throw noForm(`its normalizer and pre-tokenizer do more than to write spaces as ${SPACE_SIGN}`);
  refuseOtherDecoders(json, spaces.adds);
  return spaces;
}

function isReplace({ pattern, content }: Json, from: string, to: string): boolean {
  return (pattern as Json).String === from && content === to;
}

function isMetaspace({ type, replacement = SPACE_SIGN }: Json): boolean {
  return type === 'Metaspace' && replacement === SPACE_SIGN;
}

function metaspaceOf({ prepend_scheme: scheme = 'always', split = true }: Json): Spaces {
  const first = scheme === 'first' ? ' or behind a special token' : '';
  const note = `In llama.cpp each text gets a space in front, with this tokenizer none that begins with a space${first}.`;
  const adds = scheme !== 'never';
  return { adds, byNormalizer: false, splits: split === true, note: adds ? note : null };
}

/** llama.cpp decodes spaces and bytes, and leaves the space in front out. */
function refuseOtherDecoders(json: Json, addsSpace: boolean): void {
  const stages = stagesOf(json.decoder, 'decoders');
  const isStrip = ({ type, content, start, stop }: Json) =>
    type === 'Strip' && content === ' ' && start === 1 && stop === 0;
  const strips = stages.some(
    (stage) => isStrip(stage) || (isMetaspace(stage) && stage.prepend_scheme !== 'never'),
  );
  const isPlain = (stage: Json) =>
    isStrip(stage) ||
    isMetaspace(stage) ||
    stage.type === 'ByteFallback' ||
    stage.type === 'Fuse' ||
    (stage.type === 'Replace' && isReplace(stage, SPACE_SIGN, ' '));
  const decodesBytes = stages.some(({ type }) => type === 'ByteFallback');
  if (!stages.every(isPlain) || !decodesBytes || strips !== addsSpace)
    throw noForm('its decoder is another than that of SentencePiece');
}

/** A normalizer changes tokens that are found in normalized text, so that they take the space before them along. */
function refuseNormalized(json: Json, prepends: boolean): void {
  const changed = addedTokens(json).find(
    ({ normalized, content }) => normalized && (prepends || content.includes(' ')),
  );
  if (changed !== undefined)
    throw noForm(`its added token ${quoteName(changed.content)} is found in normalized text`);
}

function refuseInnerSpaces(pieces: ReadonlyMap<string, number>): void {
  for (const piece of pieces.keys()) {
    if (piece.indexOf(SPACE_SIGN, 1) > 0)
      throw noForm(`it cuts texts at spaces, and its token ${quoteName(piece)} goes across one`);
  }
}

/** Falling scores in the order of the merges; 0 for what no merge is about, as SentencePiece has it. */
function scoresOf(json: Json, pieces: ReadonlyMap<string, number>, vocabSize: number): Float32Array {
  const lefts = new Map<string, Set<string>>();
  let last: string | null = null;
  for (const [left, right] of mergePairs(json)) {
    const piece = left + right;
    if (![left, right, piece].every((one) => pieces.has(one))) continue;
    const known = lefts.get(piece);
    if (known !== undefined && piece !== last)
      throw noForm(`between the merges that make ${quoteName(piece)} stand others`);
    lefts.set(piece, (known ?? new Set()).add(left));
    last = piece;
  }
  const scores = new Float32Array(vocabSize);
  for (const [i, piece] of [...lefts.keys()].entries()) scores[pieces.get(piece)!] = -i;
  for (const [piece, id] of pieces) {
    const known = lefts.get(piece);
    for (let at = 1; at < piece.length; at++) {
      const [left, right] = [piece.slice(0, at), piece.slice(at)];
      if (pieces.has(left) && pieces.has(right) && !known?.has(left))
        throw noForm(`its tokens ${quoteName(left)} and ${quoteName(right)} join to one and don't merge`);
    }
    if (known === undefined) scores[id] = -lefts.size - id;
  }
  return scores;
}
