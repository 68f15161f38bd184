/** The sign that SentencePiece writes for a space. */
export const SPACE_SIGN = '▁';

/**
 * A SentencePiece vocabulary as the parts of a tokenizer.json: its pieces merge by their scores, the highest first, and
 * characters without a piece become bytes. `transformers` turns such vocabularies into merges in the same way.
 * @param addsSpace whether a text begins with a space of its own.
 */
export function sentencePieceParts(
  pieces: readonly string[],
  scores: ArrayLike<number>,
  vocab: object,
  unknown: string | null,
  addsSpace: boolean,
): Record<string, unknown> {
  const space = { type: 'Replace', pattern: { String: ' ' }, content: SPACE_SIGN };
  const prepend = { type: 'Prepend', prepend: SPACE_SIGN };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    normalizer: { type: 'Sequence', normalizers: addsSpace ? [prepend, space] : [space] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE_SIGN }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(addsSpace ? [strip] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab,
      merges: mergesOf(pieces, scores),
    },
  };
}

/** All pairs of pieces that join to a piece, by its score; of equal ones, longer beginnings first, then earlier pieces. */
function mergesOf(pieces: readonly string[], scores: ArrayLike<number>): [string, string][] {
  const ids = new Map(pieces.map((piece, id) => [piece, id]));
  const merges: { left: string; right: string; id: number }[] = [];
  for (const [id, piece] of pieces.entries()) {
    for (let at = 1; at < piece.length; at++) {
      const [left, right] = [piece.slice(0, at), piece.slice(at)];
      if (ids.has(left) && ids.has(right)) merges.push({ left, right, id });
    }
  }
  merges.sort(
    (a, b) =>
      scores[b.id] - scores[a.id] ||
      b.left.length - a.left.length ||
      a.id - b.id ||
      ids.get(a.left)! - ids.get(b.left)!,
  );
  return merges.map(({ left, right }) => [left, right]);
}
