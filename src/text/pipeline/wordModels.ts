import type { Settings } from './settings';
import { longestOf, type Model, readUnknown, readVocabulary, tokensById } from './vocabulary';

/** A model in which each word is a token, or unknown. */
export function readWordLevel(settings: Settings): Model {
  const vocab = readVocabulary(settings);
  const unknown = readUnknown(settings, vocab);
  return { vocab, tokens: tokensById(vocab), encodeWord: (word) => [vocab.get(word) ?? unknown(word)] };
}

/** A model that takes the longest token at the beginning of a word, then of the rest, and so on; or the word is unknown. */
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
