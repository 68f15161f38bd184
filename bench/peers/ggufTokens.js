'use strict';
/** Token ids below any vocabulary's size that no two sequences share. */
function tokensOf(length, sequence) {
  return Array.from({ length }, (_, i) => 300 + ((i * 7919 + sequence * 104_729) % 10_000));
}

/** Tokens that a sequence has before decoding is timed. */
const CONTEXT = 32;

module.exports = { CONTEXT, tokensOf };
