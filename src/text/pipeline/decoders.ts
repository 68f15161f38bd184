import { charactersToBytes } from '../../base/byteAlphabet';
import { characterLength, couldBeCharacter, decodeUtf8 } from '../utf8';
import { readPattern, replaceMatches } from './patterns';
import { readMetaspaceSettings } from './preTokenizers';
import { invalid, type Settings } from './settings';

/**
 * A stage of decoding, fed with the strings of tokens one by one: what has become certain with each, as strings again. Its
 * state is a plain object, so that it can be copied: what a token would add is asked without adding it.
 */
export interface DecoderStage<S extends object = object> {
  readonly start: S;
  push(state: S, piece: string): readonly string[];
  /** What is held back still, when no token follows. */
  flush?(state: S): readonly string[];
}

/** Bytes that are not UTF-8 go through the stages as lone surrogates, U+DC00 and the byte, which no text has. */
const RAW_BYTE = 0xdc00;

/** The decoders of `tokenizers` by `type`. */
const DECODERS: Readonly<Record<string, (settings: Settings, fused: boolean) => DecoderStage>> = {
  ByteLevel: () => bytesStage((token) => charactersToBytes(token) ?? Buffer.from(token, 'utf8')),
  ByteFallback: () => bytesStage(byteOfToken),
  Replace: readReplace,
  Strip: readStrip,
  Metaspace: readMetaspace,
  WordPiece: readWordPiece,
  BPEDecoder: readSuffix,
  CTC: readCtc,
};

/** Those that know what to do with the parts of one token. */
const TAKES_PARTS = ['Replace', 'Strip', 'Fuse'];

/**
 * The stages that the strings of tokens go through; what comes out is joined.
 * @param settings null: tokens are joined with spaces.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for an unknown type or setting.
 */
export function readDecoder(settings: Settings | null): DecoderStage[] {
  return settings === null ? [spacedStage(' ', '')] : readStages(settings, { fused: false });
}

/** Whether a decoder only turns the byte alphabet back into bytes. */
export function isByteLevel(settings: Settings | null): boolean {
  if (settings?.string('type') !== 'Sequence') return settings?.string('type') === 'ByteLevel';
  const decoders = settings.objects('decoders').filter((each) => each.string('type') !== 'Fuse');
  return decoders.length === 1 && isByteLevel(decoders[0]);
}

/** @param so whether the stages before have made one token of all, so that parts of it arrive. */
function readStages(settings: Settings, so: { fused: boolean }): DecoderStage[] {
  const type = settings.oneOf('type', [...Object.keys(DECODERS), 'Fuse', 'Sequence']);
  if (type === 'Sequence') return settings.objects('decoders').flatMap((each) => readStages(each, so));
  if (so.fused && !TAKES_PARTS.includes(type)) {
    throw invalid(`"${settings.path}", a ${type} of a text that is one token already, is not supported`);
  }
  const stages = type === 'Fuse' ? [] : [DECODERS[type](settings, so.fused)];
  if (type === 'Fuse' || type === 'ByteLevel') so.fused = true;
  return stages;
}

/** Raw bytes as text: U+FFFD each. */
export function rawBytesToText(text: string): string {
  return text.replaceAll(/[\udc00-\udcff]/gu, '\ufffd');
}

/** The UTF-8 of a text, and its raw bytes as they are. */
export function toBytes(text: string): Uint8Array {
  const parts = text.split(/([\udc00-\udcff])/u);
  return Buffer.concat(
    parts.map((part, i) =>
      i % 2 === 0 ? Buffer.from(part, 'utf8') : Uint8Array.of(part.charCodeAt(0) - RAW_BYTE),
    ),
  );
}

/** Puts `between` in front of each token but the first, unless the token begins with `joined`, which is left out. */
function spacedStage(between: string, joined: string): DecoderStage<{ begun: boolean }> {
  return {
    start: { begun: false },
    push(state, token) {
      const { begun } = state;
      state.begun = true;
      if (!begun) return [token];
      return [joined !== '' && token.startsWith(joined) ? token.slice(joined.length) : between + token];
    },
  };
}

function mapStage(map: (token: string) => string): DecoderStage {
  return { start: {}, push: (_, token) => [map(token)] };
}

/** '<0x41>' as `byte_fallback` writes it. */
function byteOfToken(token: string): Uint8Array | null {
  const digits = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return digits && Uint8Array.of(Number.parseInt(digits[1], 16));
}

/** Makes characters of the bytes of tokens, as soon as they are complete; a token without bytes stands for itself. */
function bytesStage(bytesOf: (token: string) => Uint8Array | null): DecoderStage<{ held: Uint8Array }> {
  const flush = (state: { held: Uint8Array }) => {
    const raw = Array.from(state.held, (byte) => String.fromCharCode(RAW_BYTE + byte));
    state.held = new Uint8Array(0);
    return raw;
  };
  return {
    start: { held: new Uint8Array(0) },
    push(state, token) {
      const bytes = bytesOf(token);
      if (bytes === null) return [...flush(state), token];
      const all = Buffer.concat([state.held, bytes]);
      let text = '';
      let at = 0;
      while (at < all.length && !couldBeCharacter(all.subarray(at))) {
        const length = characterLength(all, at);
        text +=
          length > 0 ? decodeUtf8(all.subarray(at, at + length)) : String.fromCharCode(RAW_BYTE + all[at]);
        at += Math.max(1, length);
      }
      state.held = all.subarray(at);
      return text === '' ? [] : [text];
    },
    flush,
  };
}

function readReplace(settings: Settings, fused: boolean): DecoderStage {
  const pattern = readPattern(settings);
  const content = settings.string('content');
  const replace = (token: string) => replaceMatches(token, pattern, content);
  if (!fused) return mapStage(replace);
  const text = settings.object('pattern').optionalString('String') ?? '';
  if (text === '') settings.refuse('pattern', 'a text, { "String": ... }, behind a Fuse');
  return {
    start: { held: '' },
    push(state: { held: string }, part) {
      const all = state.held + part;
      const searched = all.lastIndexOf(text) < 0 ? 0 : endOfLastMatch(all, text);
      let certain = Math.max(searched, all.length - text.length + 1);
      while (!text.startsWith(all.slice(certain))) certain++;
      state.held = all.slice(certain);
      return [replace(all.slice(0, certain))];
    },
    flush(state: { held: string }) {
      const { held } = state;
      state.held = '';
      return [held];
    },
  };
}

/** Where the last of the matches from the left ends. */
function endOfLastMatch(text: string, searched: string): number {
  let end = 0;
  for (let at = text.indexOf(searched); at >= 0; at = text.indexOf(searched, end)) end = at + searched.length;
  return end;
}

/** Of each token, or of a text that comes in parts: up to `start` characters at its start and `stop` at its end. */
function readStrip(settings: Settings, fused: boolean): DecoderStage {
  const content = settings.character('content');
  const start = settings.integer('start', 0, 2 ** 31);
  const stop = settings.integer('stop', 0, 2 ** 31);
  const cutStart = (text: string, most: number) => {
    let count = 0;
    while (count < most && text.startsWith(content, count * content.length)) count++;
    return { count, rest: text.slice(count * content.length) };
  };
  const keptEnd = (text: string) => {
    let end = text.length;
    for (let i = 0; i < stop && text.slice(0, end).endsWith(content); i++) end -= content.length;
    return end;
  };
  if (!fused) {
    return mapStage((token) => {
      const { rest } = cutStart(token, start);
      return rest.slice(0, keptEnd(rest));
    });
  }
  const stage: DecoderStage<{ left: number; held: string }> = {
    start: { left: start, held: '' },
    push(state, part) {
      const { count, rest } = cutStart(part, state.left);
      state.left = rest === '' ? state.left - count : 0;
      const all = state.held + rest;
      const end = keptEnd(all);
      state.held = all.slice(end);
      return [all.slice(0, end)];
    },
    flush(state) {
      state.held = '';
      return [];
    },
  };
  return stage;
}

/** The sign stands for a space; at the beginning of a text it is left out, where the pre-tokenizer puts one there. */
function readMetaspace(settings: Settings): DecoderStage {
  const { sign, scheme } = readMetaspaceSettings(settings);
  const first = scheme === 'never' ? ' ' : '';
  const stage: DecoderStage<{ begun: boolean }> = {
    start: { begun: false },
    push(state, token) {
      const space = state.begun ? ' ' : first;
      state.begun = true;
      return [token.replaceAll(sign, space)];
    },
  };
  return stage;
}

function readWordPiece(settings: Settings): DecoderStage {
  const spaced = spacedStage(' ', settings.string('prefix', '##'));
  const clean = settings.boolean('cleanup', true) ? cleanUp : (text: string) => text;
  return { ...spaced, push: (state, token) => spaced.push(state as { begun: boolean }, token).map(clean) };
}

/** Spaces that English text does not have, as `tokenizers` leaves them out, token by token. */
function cleanUp(text: string): string {
  return text
    .replaceAll(/ ([.?!,])/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(' do not', " don't")
    .replaceAll(/ ('s|'ve|'re)/g, '$1');
}

/** The suffix of a word's last token stands for a space, and at the end of a text for nothing. */
function readSuffix(settings: Settings): DecoderStage {
  const suffix = settings.string('suffix', '</w>');
  const stage: DecoderStage<{ held: string }> = {
    start: { held: '' },
    push(state, token) {
      const before = state.held.replaceAll(suffix, ' ');
      const at = token.indexOf(suffix);
      state.held = at < 0 ? '' : token.slice(at);
      return [before, at < 0 ? token : token.slice(0, at)];
    },
    flush(state) {
      const rest = state.held.replaceAll(suffix, '');
      state.held = '';
      return [rest];
    },
  };
  return stage;
}

/** Of equal tokens in a row the first counts, as models of speech mean them. */
function readCtc(settings: Settings): DecoderStage {
  const pad = settings.string('pad_token', '<pad>');
  const delimiter = settings.string('word_delimiter_token', '|');
  const clean = settings.boolean('cleanup', true);
  const stage: DecoderStage<{ last: string | null }> = {
    start: { last: null },
    push(state, token) {
      const again = token === state.last;
      state.last = token;
      if (again) return [];
      const text = token.replaceAll(pad, '');
      return [clean ? cleanUp(text).replaceAll(delimiter, ' ') : text];
    },
  };
  return stage;
}
