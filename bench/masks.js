'use strict';
/**
 * Measures constrained sampling. Prints as Markdown, by size of the vocabulary: the time to read the tokens' bytes and to compile
 * a schema of 2 KB with its first mask; what the constraint adds to a batch of 8 sequences, a step, with masks that are computed
 * on the way and that are known; and the step of a model of 150 MB beside it.
 *
 *   node bench/masks.js --threads 1
 */
const { addBackendOptions, applyBackendOptions, command, integer, start } = require('./lib/command');
const { LOADED } = require('./lib/loadedModel');
const { quantile, sort } = require('./lib/stats');

const SEQUENCES = 8;
const CONTEXT = 256;
const COMPILES = 15;

/** 150 MB of weights with a vocabulary of 32,000. */
const MODEL = { ...LOADED, hiddenDim: 256, nHeads: 4, vocabSize: 32_000 };

start(async () => {
  const program = command(
    'masks.js',
    'Measures constrained sampling: compiling, masks, the cost of a step.',
  ).option('--steps <n>', 'tokens of each sequence', integer(1, CONTEXT - 1), 100);
  const options = addBackendOptions(program).parse().opts();
  applyBackendOptions(options);
  const stepMs = timeSteps(options.steps);
  process.stdout.write(
    `Schema of ${JSON.stringify(schema(0)).length} bytes; a step of ${SEQUENCES}: ${stepMs.toFixed(2)} ms.\n\n`,
  );
  process.stdout.write(
    '| Vocabulary | Tokens read (ms) | Compiled, first mask (ms) | Added to a step, new masks p50 / p99 (ms) | known masks p50 / p99 (ms) |\n',
  );
  process.stdout.write('|---|---|---|---|---|\n');
  for (const size of [32_000, 150_000]) process.stdout.write(row(size, options.steps));
});

/** Milliseconds of a decoding step of all sequences, the median. */
function timeSteps(steps) {
  const { Decoder, MoETransformer } = require('..');
  const model = MoETransformer.create(MODEL);
  const decoder = new Decoder(model, { slots: SEQUENCES, contextLength: CONTEXT });
  const rows = Array.from({ length: SEQUENCES }, (_, slot) => ({ slot, tokens: [slot + 1] }));
  const logits = new Float32Array(SEQUENCES * MODEL.vocabSize);
  const times = Array.from({ length: steps }, () => timed(() => decoder.step(rows, { logits })));
  return quantile(sort(times), 0.5);
}

function row(size, steps) {
  const { TokenVocabulary } = require('..');
  const bytes = vocabularyOf(size);
  const compiles = [];
  let vocabulary;
  const readMs = timed(() => {
    vocabulary = new TokenVocabulary(bytes);
    firstToken(vocabulary, -1);
  });
  for (let i = 0; i < COMPILES; i++) compiles.push(timed(() => firstToken(vocabulary, i)));
  const fresh = added(vocabulary, steps);
  const known = added(vocabulary, steps);
  const ms = (times) =>
    `${quantile(sort(times), 0.5).toFixed(2)} / ${quantile(sort(times), 0.99).toFixed(2)}`;
  const compileMs = quantile(sort(compiles), 0.5).toFixed(1);
  return `| ${size.toLocaleString('en')} | ${readMs.toFixed(0)} | ${compileMs} | ${ms(fresh)} | ${ms(known)} |\n`;
}

/** Compiles a schema and chooses the first token by it. */
function firstToken(vocabulary, seed) {
  const sampler = samplerOf(vocabulary, { jsonSchema: schema(seed + 100) });
  sampler.choose(new Float32Array(vocabulary.size));
}

/** Milliseconds that the constraint adds to each step of a batch whose sequences have schemas of their own. */
function added(vocabulary, steps) {
  const random = uniform(7);
  const make = (seed) => samplerOf(vocabulary, { jsonSchema: schema(seed % 4) });
  const constrained = Array.from({ length: SEQUENCES }, (_, i) => make(i));
  const free = samplerOf(vocabulary, {});
  const logits = Array.from({ length: SEQUENCES }, () =>
    Float32Array.from({ length: vocabulary.size }, () => 8 * random()),
  );
  const times = [];
  for (let step = 0; step < steps; step++) {
    // Other tokens are the most probable ones in each step, as a model would have it.
    for (const each of logits) each.copyWithin(0, 1 + Math.floor(random() * 50));
    const withIt = timed(() => {
      for (const [i, sampler] of constrained.entries()) sampler.choose(logits[i]);
    });
    const without = timed(() => {
      for (const each of logits) free.choose(each);
    });
    times.push(withIt - without);
    for (const [i, sampler] of constrained.entries()) if (sampler.ended) constrained[i] = make(i);
  }
  return times;
}

function samplerOf(vocabulary, options) {
  const { Sampler } = require('..');
  const endTokens = [vocabulary.size - 1];
  return new Sampler({ temperature: 0, ...options }, { vocabSize: vocabulary.size, vocabulary, endTokens });
}

/** Bytes, then words as BPE has them: with a space before, in capitals, numbers, punctuation of code, and other letters. */
function vocabularyOf(size) {
  const random = uniform(3);
  const of = (letters, least, most) =>
    Array.from(
      { length: least + Math.floor(random() * (most - least + 1)) },
      () => letters[Math.floor(random() * letters.length)],
    ).join('');
  const words = new Set();
  while (words.size < size - 257) {
    const kind = random();
    const word =
      kind < 0.85
        ? of('etaoinshrdlucmfwypvbgk', 2, 9)
        : kind < 0.9
          ? of('0123456789', 2, 3)
          : kind < 0.95
            ? of('{}[]":,.();= \n', 2, 4)
            : of('éàüßжшен中文字', 1, 3);
    words.add(random() < 0.5 ? ` ${word}` : word);
  }
  const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  return [...bytes, ...Array.from(words, (word) => Buffer.from(word)), null];
}

/** A schema of 2 KB, another one for each number. */
function schema(number) {
  const person = {
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 80 },
      email: { type: 'string', format: 'email' },
      born: { type: 'string', format: 'date' },
      roles: { type: 'array', items: { enum: ['author', 'editor', 'reviewer', 'reader'] }, maxItems: 4 },
      score: { type: 'number', minimum: 0, maximum: 100 },
      manager: { anyOf: [{ $ref: '#/$defs/person' }, { type: 'null' }] },
    },
    required: ['name', 'email', 'roles', 'manager'],
    additionalProperties: false,
  };
  const address = Object.fromEntries(
    ['street', 'house', 'city', 'region', 'country'].map((name) => [
      name,
      { type: 'string', description: `The ${name} of a place.` },
    ]),
  );
  return {
    title: `Report ${number}`,
    type: 'object',
    $defs: {
      person,
      address: { type: 'object', properties: address, required: ['city'], additionalProperties: false },
    },
    properties: {
      title: { type: 'string', description: 'A short title of the report, in the language of the text.' },
      summary: { type: 'string', description: 'What the text says, in up to three sentences.' },
      persons: { type: 'array', items: { $ref: '#/$defs/person' }, minItems: 1 },
      places: { type: 'array', items: { $ref: '#/$defs/address' }, maxItems: 5 },
      tags: { type: 'object', additionalProperties: { type: 'integer', minimum: 0 } },
      status: { oneOf: [{ const: 'draft' }, { const: 'final' }] },
      id: { type: 'string', format: 'uuid' },
      code: { type: 'string', pattern: '^[A-Z]{3}-[0-9]{4,8}$' },
      at: { type: 'string', format: 'date-time', description: 'When the report was written, with its zone.' },
      language: { type: 'string', enum: ['en', 'de', 'fr', 'es', 'it', 'nl', 'pl', 'pt', 'sv'] },
      pages: { type: 'integer', minimum: 1, maximum: 9999, description: 'Pages of the printed report.' },
      sources: {
        type: 'array',
        items: { type: 'string', maxLength: 200 },
        description: 'Where the facts come from.',
      },
    },
    required: ['title', 'summary', 'persons', 'status', 'id'],
    additionalProperties: false,
  };
}

function timed(run) {
  const started = performance.now();
  run();
  return performance.now() - started;
}

/** Uniform numbers in [0, 1), the same for the same seed. */
function uniform(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
