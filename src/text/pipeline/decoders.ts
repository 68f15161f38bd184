import { charactersToBytes } from '../../base/byteAlphabet';
import { characterLength, couldBeCharacter, decodeUtf8 } from '../utf8';
import { readPattern, replaceMatches } from './patterns';
import { readMetaspaceSettings } from './preTokenizers';
import { invalid, type Settings } from './settings';

/**
 * A stage of decoding. It takes the strings of tokens one by one and returns, as strings, what has become certain with each.
 * Its state is a plain object that can be copied, so that callers can ask what a token would add without adding it.
 */
export interface DecoderStage<S extends object = object> {
  readonly start: S;
  /** Whether what a token becomes depends on the tokens beside it, wherever it stands. */
  readonly usesNeighbours?: boolean | undefined;
  push(state: S, piece: string): readonly string[];
  /** The strings that are still held back, after the last token. */
  flush?(state: S): readonly string[];
}

/** Bytes that aren't UTF-8 pass the stages as lone surrogates, U+DC00 plus the byte, which no text contains. */
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

/** The decoders that can handle parts of one token. */
const TAKES_PARTS = ['Replace', 'Strip', 'Fuse'];

/**
 * The stages that the strings of tokens pass; their output is joined.
 * @param settings null joins tokens with spaces.
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

/** @param so `fused` says whether an earlier stage joined all tokens into one, so that parts of it arrive. */
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

/** Replaces each raw byte by U+FFFD. */
export function rawBytesToText(text: string): string {
  return text.replaceAll(/[\udc00-\udcff]/gu, '\ufffd');
}

/** The UTF-8 of a text; its raw bytes stay as they are. */
export function toBytes(text: string): Uint8Array {
  const parts = text.split(/([\udc00-\udcff])/u);
  return Buffer.concat(
    parts.map((part, i) =>
      i % 2 === 0 ? Buffer.from(part, 'utf8') : Uint8Array.of(part.charCodeAt(0) - RAW_BYTE),
    ),
  );
}

/** Puts `between` before each token except the first. A token that begins with `joined` loses that instead. */
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

/** The byte of a token such as '<0x41>', as `byte_fallback` writes it; null for other tokens. */
function byteOfToken(token: string): Uint8Array | null {
  const digits = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return digits && Uint8Array.of(Number.parseInt(digits[1], 16));
}

/** Makes characters from the bytes of tokens once they are complete; a token without bytes stands for itself. */
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

/** The end of the last match, counted from the left. */
function endOfLastMatch(text: string, searched: string): number {
  let end = 0;
  for (let at = text.indexOf(searched); at >= 0; at = text.indexOf(searched, end)) end = at + searched.length;
  return end;
}

/**
 * Removes up to `start` characters at the start and `stop` at the end, of each token or of a text that arrives in parts.
 */
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

/** Turns the sign into a space. A sign that the pre-tokenizer puts at the beginning of a text is left out. */
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

/** Removes spaces that English text doesn't have, token by token, as `tokenizers` does. */
function cleanUp(text: string): string {
  return text
    .replaceAll(/ ([.?!,])/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(' do not', " don't")
    .replaceAll(/ ('s|'ve|'re)/g, '$1');
}

/** Turns the suffix of a word's last token into a space, or into nothing at the end of a text. */
function readSuffix(settings: Settings): DecoderStage {
  const suffix = settings.string('suffix', '</w>');
  const stage: DecoderStage<{ held: string }> = {
    start: { held: '' },
    usesNeighbours: true,
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

/** Keeps the first of consecutive equal tokens, as models of speech (CTC) mean them. */
function readCtc(settings: Settings): DecoderStage {
  const pad = settings.string('pad_token', '<pad>');
  const delimiter = settings.string('word_delimiter_token', '|');
  const clean = settings.boolean('cleanup', true);
  const stage: DecoderStage<{ last: string | null }> = {
    start: { last: null },
    usesNeighbours: true,
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
