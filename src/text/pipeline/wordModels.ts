import type { Settings } from './settings';
import { longestOf, type Model, readUnknown, readVocabulary, tokensById } from './vocabulary';

/** A word is a token, or unknown. */
export function readWordLevel(settings: Settings): Model {
  const vocab = readVocabulary(settings);
  const unknown = readUnknown(settings, vocab);
  return { vocab, tokens: tokensById(vocab), encodeWord: (word) => [vocab.get(word) ?? unknown(word)] };
}

/** The longest token that a word begins with, then of the rest the longest that goes on, or all of it unknown. */
export function readWordPiece(settings: Settings): Model {
  const vocab = readVocabulary(settings);
  const unknown = readUnknown(settings, vocab);
  const prefix = settings.string('continuing_subword_prefix', '##');
  const mostCharacters = settings.integer('max_input_chars_per_word', 0, 2 ** 53, 100);
  const longest = longestOf(vocab);
  return {
    vocab,
    tokens: tokensById(vocab),
    encodeWord(word) {
      if ([...word].length > mostCharacters) return [unknown(word)];
      const ids: number[] = [];
      for (let start = 0; start < word.length; ) {
        const before = start > 0 ? prefix : '';
        let end = Math.min(word.length, start + longest);
        let id = vocab.get(before + word.slice(start, end));
        while (id === undefined && --end > start) id = vocab.get(before + word.slice(start, end));
        if (id === undefined) return [unknown(word)];
        ids.push(id);
        start = end;
      }
      return ids;
    },
  };
}
