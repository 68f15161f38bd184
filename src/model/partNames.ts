/** Words for parts of a model, as patterns of names. */
type Words = Readonly<Record<string, readonly string[]>>;

const PARAMETER_WORDS: Words = {
  router: ['block_sparse_moe.gate'],
  attention: ['self_attn'],
  norms: ['*norm', '*layernorm'],
  embedding: ['embed_tokens'],
};

/**
 * Which of `names` some pattern means: one of `words`, or parts of a name between dots that follow each other, in which *
 * stands for any text without a dot. @throws RangeError, beginning with `what`, for a pattern that means none of them.
 */
export function chosenNames(
  what: string,
  patterns: readonly string[],
  names: readonly string[],
  words: Words = PARAMETER_WORDS,
): Set<string> {
  const chosen = new Set<string>();
  for (const pattern of patterns) {
    const tests = (words[pattern] ?? [pattern]).map(testOf);
    const found = names.filter((name) => tests.some((test) => test.test(name)));
    if (found.length === 0) {
      throw new RangeError(`${what}: '${pattern}' is part of no name here, such as ${examples(names)}`);
    }
    for (const name of found) chosen.add(name);
  }
  return chosen;
}

function testOf(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[^\w]/g, '\\$&'));
  return new RegExp(`(^|\\.)${parts.join('[^.]*')}(\\.|$)`);
}

function examples(names: readonly string[]): string {
  return [...new Set([names[0], names[Math.floor(names.length / 2)], names[names.length - 1]])].join(', ');
}
