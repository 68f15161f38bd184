import { quoteName } from '../safetensorsHeader';
import type { TokenizerFiles } from '../tokenizerFiles';
import { preTokenizerName } from './preTokenizers';
import { sentencePieceForm } from './sentencePieceForm';
import { type AddedToken, type Json, mergePairs, noForm, stagesOf } from './tokenizerJson';
import { TOKEN_KINDS } from './tokenKinds';
import type { GgufEntry } from './writer';

/** Ids of a text's ends; null for a missing one. */
export interface WrittenEnds {
  readonly bos: number | null;
  /** All tokens that end an answer: of the text, of a turn, of a message. */
  readonly ends: readonly number[];
  readonly pad: number | null;
}

/**
 * The metadata of a tokenizer.json, as llama.cpp reads it: the inverse of `ggufTokenizer`. A byte-level BPE becomes `gpt2`,
 * one whose characters fall back on bytes (SentencePiece) `llama`. Ids from the tokenizer's up to `vocabSize`, which the
 * model has alone, become unused tokens.
 * @param onNote is told what llama.cpp does otherwise than the tokenizer.
 * @throws RangeError with what has no form in a GGUF: another kind of tokenizer, another pre-tokenizer, added tokens that
 * take spaces along, tokens around a text other than its beginning and end.
 */
export function tokenizerEntries(
  { tokenizer, tokenizerConfig, chatTemplate }: Partial<TokenizerFiles>,
  vocabSize: number,
  ends: WrittenEnds,
  onNote: (note: string) => void,
): Map<string, GgufEntry> {
  const entries = new Map<string, GgufEntry>();
  if (tokenizer === undefined) return entries.set('tokenizer.ggml.model', { type: 'string', value: 'none' });
  const json = tokenizer as Json;
  refuseOtherKinds(json);
  const { tokens, kinds } = tokensOf(json, vocabSize);
  const around = aroundOf(json);
  const put = (key: string, entry: GgufEntry) => entries.set(`tokenizer.ggml.${key}`, entry);
  put('tokens', { type: 'strings', value: tokens });
  const own = fallsBackOnBytes(json) ? pieceEntries(json, kinds, onNote) : bytePairEntries(json);
  for (const [key, entry] of Object.entries(own)) put(key, entry);
  put('token_type', { type: 'int32s', value: kinds });
  const bos = around.before ?? ends.bos;
  const [eos = around.after, eot, eom] = ends.ends;
  for (const [key, id] of Object.entries({ bos, eos, eot, eom, padding: ends.pad })) {
    if (id !== null && id !== undefined) put(`${key}_token_id`, { type: 'uint32', value: id });
  }
  put('add_bos_token', { type: 'bool', value: around.before !== null });
  put('add_eos_token', { type: 'bool', value: around.after !== null });
  if (around.after !== null && around.after !== eos)
    throw noForm('it ends texts with another token than the one that ends an answer');
  addTemplates(entries, (tokenizerConfig ?? {}) as Json, chatTemplate);
  return entries;
}

function refuseOtherKinds(json: Json): void {
  if (json.type !== undefined && json.model === undefined)
    throw noForm(`a tokenizer of type ${quoteName(String(json.type))} isn't byte-level BPE`);
  const model = json.model as Json | null | undefined;
  if (model?.type !== 'BPE') throw noForm(`a ${String(model?.type)} tokenizer isn't byte-level BPE`);
  const isByteLevel = (json.decoder as Json | null)?.type === 'ByteLevel';
  if (!isByteLevel && !fallsBackOnBytes(json)) throw noForm("a BPE of characters isn't byte-level BPE");
  for (const key of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[key]) throw noForm(`its ${key} has no place there`);
  }
}

function fallsBackOnBytes({ model, decoder }: Json): boolean {
  return (model as Json).byte_fallback === true && (decoder as Json | null)?.type !== 'ByteLevel';
}

function bytePairEntries(json: Json): Record<string, GgufEntry> {
  const pre = preTokenizerName(json);
  if (pre === null) throw noForm('its pre-tokenizer or normalizer is none that GGUF has a name for');
  const merges = mergePairs(json).map((pair) => pair.join(' '));
  return {
    model: { type: 'string', value: 'gpt2' },
    pre: { type: 'string', value: pre },
    merges: { type: 'strings', value: merges },
  };
}

/** Changes the kinds of bytes and of the unknown token. */
function pieceEntries(
  json: Json,
  kinds: Int32Array,
  onNote: (note: string) => void,
): Record<string, GgufEntry> {
  const { scores, bytes, unknown, addsSpace, note } = sentencePieceForm(json, kinds.length);
  for (const id of bytes) kinds[id] = TOKEN_KINDS.byte;
  if (note !== null) onNote(note);
  const entries: Record<string, GgufEntry> = {
    model: { type: 'string', value: 'llama' },
    scores: { type: 'float32s', value: scores },
    add_space_prefix: { type: 'bool', value: addsSpace },
  };
  if (unknown !== null) {
    entries.unknown_token_id = { type: 'uint32', value: unknown };
    if (kinds[unknown] !== TOKEN_KINDS.normal) kinds[unknown] = TOKEN_KINDS.unknown;
  }
  return entries;
}

function tokensOf(json: Json, vocabSize: number): { tokens: string[]; kinds: Int32Array } {
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const kinds = new Int32Array(vocabSize).fill(TOKEN_KINDS.unused);
  const place = (id: number, content: string, kind: number) => {
    if (id >= vocabSize) throw noForm(`its token ${id} lies outside the model's vocabulary of ${vocabSize}`);
    tokens[id] = content;
    kinds[id] = kind;
  };
  const { vocab } = json.model as { vocab: Record<string, number> };
  for (const [token, id] of Object.entries(vocab)) place(id, token, TOKEN_KINDS.normal);
  for (const token of (json.added_tokens ?? []) as AddedToken[]) {
    if (token.lstrip || token.rstrip || token.single_word)
      throw noForm(`its added token ${quoteName(token.content)} depends on what stands beside it`);
    place(token.id, token.content, token.special ? TOKEN_KINDS.control : TOKEN_KINDS.userDefined);
  }
  return { tokens, kinds };
}

/** The tokens that the post-processor puts before and after a text. */
function aroundOf(json: Json): { before: number | null; after: number | null } {
  const stages = stagesOf(json.post_processor, 'processors');
  const [template, ...more] = stages.filter(({ type }) => type !== 'ByteLevel');
  if (template === undefined) return { before: null, after: null };
  if (more.length > 0 || template.type !== 'TemplateProcessing')
    throw noForm(`its post-processor ${String((more[0] ?? template).type)} has no place there`);
  const pieces = template.single as Json[];
  const text = pieces.findIndex((piece) => piece.Sequence !== undefined);
  const special = template.special_tokens as Record<string, { ids: number[] }>;
  const idsOf = (some: readonly Json[]) =>
    some.flatMap((piece) => special[(piece.SpecialToken as { id: string }).id].ids);
  const [before, after] = [idsOf(pieces.slice(0, text)), idsOf(pieces.slice(text + 1))];
  if (before.length > 1 || after.length > 1) throw noForm('it puts several tokens before or after a text');
  return { before: before[0] ?? null, after: after[0] ?? null };
}

function addTemplates(entries: Map<string, GgufEntry>, config: Json, jinja: string | undefined): void {
  const given = config.chat_template;
  const named = Array.isArray(given) ? (given as { name: string; template: string }[]) : [];
  const only = jinja ?? (typeof given === 'string' ? given : undefined);
  const others = named.filter(({ name }) => name !== 'default');
  const main = only ?? named.find(({ name }) => name === 'default')?.template;
  const key = 'tokenizer.chat_template';
  if (main !== undefined) entries.set(key, { type: 'string', value: main });
  if (others.length > 0)
    entries.set('tokenizer.chat_templates', { type: 'strings', value: others.map(({ name }) => name) });
  for (const { name, template } of others) entries.set(`${key}.${name}`, { type: 'string', value: template });
}
