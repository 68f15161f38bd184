/** Patterns of tokenizer.json and the splitting of texts by them, as in Hugging Face's `tokenizers`. */
import { translateRegExp } from './regex';
import { invalid, type Settings, show } from './settings';

/** What becomes of a match: it is removed, made a piece, or joined to a neighbour. */
export const SPLIT_BEHAVIORS = [
  'Removed',
  'Isolated',
  'MergedWithPrevious',
  'MergedWithNext',
  'Contiguous',
] as const;
export type SplitBehavior = (typeof SPLIT_BEHAVIORS)[number];

/** A stretch of a text, and whether the pattern matched it. */
interface Stretch {
  start: number;
  end: number;
  matched: boolean;
}

/**
 * Reads the setting `pattern`: { String } or { Regex } in Oniguruma's Ruby syntax.
 * @throws SgemoeError SGEMOE_TOKENIZER_INVALID for another kind, or an expression that JavaScript can't express.
 */
export function readPattern(settings: Settings): RegExp {
  const pattern = settings.object('pattern');
  const [kind, ...more] = pattern.entries().map(([name]) => name);
  if (more.length > 0 || (kind !== 'String' && kind !== 'Regex')) {
    settings.refuse('pattern', 'either { "String": ... } or { "Regex": ... }');
  }
  const source = pattern.string(kind);
  if (kind === 'String') return new RegExp(escapeRegExp(source), 'gu');
  try {
    return translateRegExp(source);
  } catch (cause) {
    throw invalid(
      `"${pattern.path}.Regex" is not supported (${(cause as Error).message}): ${show(source)}`,
      cause,
    );
  }
}

export function escapeRegExp(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

/** The matches of a global expression, without empty ones directly after another match, as in Oniguruma. */
export function* findMatches(text: string, pattern: RegExp): Generator<{ start: number; end: number }, void> {
  let lastEnd = -1;
  for (const { 0: match, index: start } of text.matchAll(pattern)) {
    const end = start + match.length;
    if (start === end && start === lastEnd) continue;
    yield { start, end };
    lastEnd = end;
  }
}

/** Replaces every match by `content`, taken literally. */
export function replaceMatches(text: string, pattern: RegExp, content: string): string {
  let replaced = '';
  let at = 0;
  for (const { start, end } of findMatches(text, pattern)) {
    replaced += text.slice(at, start) + content;
    at = end;
  }
  return replaced + text.slice(at);
}

/** Splits a text into pieces that aren't empty. @param invert whether to split at what the pattern doesn't match. */
export function splitText(text: string, pattern: RegExp, behavior: SplitBehavior, invert = false): string[] {
  if (behavior === 'Isolated') {
    const words = wordsOf(text, pattern);
    if (words !== null) return words;
  }
  const stretches = stretchesOf(text, pattern);
  if (invert) for (const stretch of stretches) stretch.matched = !stretch.matched;
  const pieces: string[] = [];
  for (const { start, end } of join(stretches, behavior))
    if (end > start) pieces.push(text.slice(start, end));
  return pieces;
}

/** The matches if they cover the text and none is empty, else null. It is faster than looking at the gaps too. */
function wordsOf(text: string, pattern: RegExp): string[] | null {
  const words: string[] = text.match(pattern) ?? [];
  let length = 0;
  for (const word of words) {
    if (word === '') return null;
    length += word.length;
  }
  return length === text.length ? words : null;
}

function stretchesOf(text: string, pattern: RegExp): Stretch[] {
  const stretches: Stretch[] = [];
  let at = 0;
  for (const { start, end } of findMatches(text, pattern)) {
    if (start > at) stretches.push({ start: at, end: start, matched: false });
    stretches.push({ start, end, matched: true });
    at = end;
  }
  if (at < text.length) stretches.push({ start: at, end: text.length, matched: false });
  return stretches;
}

function join(stretches: Stretch[], behavior: SplitBehavior): Stretch[] {
  switch (behavior) {
    case 'Isolated':
      return stretches;
    case 'Removed':
      return stretches.filter(({ matched }) => !matched);
    case 'Contiguous':
      return merge(stretches, (stretch, previous) => stretch.matched === previous);
    case 'MergedWithPrevious':
      return merge(stretches, (stretch, previous) => stretch.matched && !previous);
    case 'MergedWithNext':
      return merge(stretches.reverse(), (stretch, previous) => stretch.matched && !previous).reverse();
  }
}

/** Joins a stretch to the previous one if `joins` says so; `previous` tells whether that one matched (initially false). */
function merge(
  stretches: readonly Stretch[],
  joins: (stretch: Stretch, previous: boolean) => boolean,
): Stretch[] {
  const merged: Stretch[] = [];
  let previous = false;
  for (const stretch of stretches) {
    const last = merged.at(-1);
    if (last !== undefined && joins(stretch, previous)) {
      last.start = Math.min(last.start, stretch.start);
      last.end = Math.max(last.end, stretch.end);
    } else merged.push({ ...stretch });
    previous = stretch.matched;
  }
  return merged;
}
