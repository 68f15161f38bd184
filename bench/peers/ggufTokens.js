'use strict';
/** Token ids below 1,800, which the smallest vocabulary that people publish has, other ones for each sequence. */
function tokensOf(length, sequence) {
  return Array.from({ length }, (_, i) => 300 + ((i * 7919 + sequence * 104_729) % 1_500));
}

/** Tokens that a sequence has before decoding is timed. */
const CONTEXT = 32;

module.exports = { CONTEXT, tokensOf };
