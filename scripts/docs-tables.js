'use strict';
/**
 * Writes the tables of options in docs/ from the tables of dist/, between `<!-- options: NAME -->` and `<!-- end -->`. With
 * --check it writes nothing, and fails if a table is stale.
 */
const fs = require('node:fs');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const dist = (file) => require(path.join(ROOT, 'dist', file));

/** The tables by NAME: headings, and the rows of cells. */
const TABLES = {
  model: () => {
    const { MODEL_OPTIONS } = dist('config/modelOptions.js');
    const rows = entries(MODEL_OPTIONS).map(([name, row]) => [
      code(name),
      code(row.json),
      range(row),
      defaultOf(row),
      flag(row, 'train'),
      meaning(row),
    ]);
    return [['Option', 'config.json', 'Range', 'Default', '`sgemoe train`', 'Meaning'], rows];
  },
  train: () => withFlags(dist('config/trainConfig.js').TRAIN_OPTIONS, 'train'),
  chats: () => withFlags(dist('text/chats/options.js').CHAT_DATA_OPTIONS, 'finetune'),
  preferences: () => withFlags(dist('text/chats/options.js').BETA_OPTION, 'finetune'),
  sampling: () => withFlags(dist('sampling/options.js').SAMPLING_OPTIONS, 'generate'),
  run: () => withFlags(dist('training/run/runOptions.js').RUN_OPTIONS, 'train'),
  earlyStopping: () => withFlags(dist('training/earlyStopping.js').EARLY_STOPPING_OPTIONS, 'train'),
  samples: () => withFlags(dist('training/run/samples.js').SAMPLE_OPTIONS, 'train'),
  lora: () => withFlags(dist('config/loraOptions.js').LORA_OPTIONS, 'finetune'),
  upcycle: () => withFlags(dist('config/upcycleOptions.js').UPCYCLE_OPTIONS, 'upcycle'),
  windows: () => withFlags(dist('training/evaluateText.js').WINDOW_OPTIONS, 'eval'),
  engine: () => withFlags(dist('serve/engine/options.js').ENGINE_OPTIONS, 'serve'),
  serve: () => {
    const { LISTEN_OPTIONS, HTTP_OPTIONS } = dist('serve/http/options.js');
    return withFlags({ ...HTTP_OPTIONS, ...LISTEN_OPTIONS }, 'serve');
  },
  fields: () => {
    const { COMMON_FIELDS, COMPLETION_FIELDS, CHAT_FIELDS } = dist('serve/http/requestFields.js');
    const rowsOf = (table, routes) =>
      entries(table).map(([name, row]) => [code(name), routes, range(row), defaultOf(row), meaning(row)]);
    return [
      ['Field', 'In', 'Range', 'Default', 'Meaning'],
      [
        ...rowsOf(COMPLETION_FIELDS, 'completions'),
        ...rowsOf(CHAT_FIELDS, 'chats'),
        ...rowsOf(COMMON_FIELDS, 'both'),
      ],
    ];
  },
  embeddingFields: () => {
    const { EMBEDDING_FIELDS } = dist('serve/http/requestFields.js');
    const rows = entries(EMBEDDING_FIELDS).map(([name, row]) => [
      code(name),
      range(row),
      defaultOf(row),
      meaning(row),
    ]);
    return [['Field of `/v1/embeddings`', 'Range', 'Default', 'Meaning'], rows];
  },
  responseFields: () => {
    const { RESPONSE_FIELDS } = dist('serve/http/responses/fields.js');
    const rows = entries(RESPONSE_FIELDS).map(([name, row]) => [
      code(name),
      range(row),
      defaultOf(row),
      meaning(row),
    ]);
    return [['Field of `/v1/responses`', 'Range', 'Default', 'Meaning'], rows];
  },
  messageFields: () => {
    const { MESSAGE_FIELDS } = dist('serve/http/messages.js');
    const rows = entries(MESSAGE_FIELDS).map(([name, row]) => [code(name), range(row), meaning(row)]);
    return [['Field of a message', 'Range', 'Meaning'], rows];
  },
  idleFields: () => {
    const { IDLE_COMMON, IDLE_CHAT, IDLE_EMBEDDING } = dist('serve/http/otherFields.js');
    const { IDLE_RESPONSE } = dist('serve/http/responses/fields.js');
    const rowsOf = (table, routes) =>
      entries(table).map(([name, { doc, values = [] }]) => [
        code(name),
        routes,
        values.length === 0 ? 'any' : values.map((value) => code(JSON.stringify(value))).join(' or '),
        doc,
      ]);
    return [
      ['Field without effect', 'In', 'Value', 'Since'],
      [
        ...rowsOf(IDLE_COMMON, 'both'),
        ...rowsOf(IDLE_CHAT, 'chats'),
        ...rowsOf(IDLE_EMBEDDING, 'embeddings'),
        ...rowsOf(IDLE_RESPONSE, 'responses'),
      ],
    ];
  },
  refusedFields: () => {
    const { REFUSED_CHAT } = dist('serve/http/otherFields.js');
    const { REFUSED_RESPONSE } = dist('serve/http/responses/fields.js');
    return [
      ['Refused field', 'In', 'Since'],
      [
        ...entries(REFUSED_CHAT).map(([name, why]) => [code(name), 'chats', why]),
        ...entries(REFUSED_RESPONSE).map(([name, why]) => [code(name), 'responses', why]),
      ],
    ];
  },
};

/** A page with its tables as they should be. */
function render(text) {
  return text.replaceAll(
    /(<!-- options: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, begin, name, end) => `${begin}\n${markdown(...TABLES[name]())}\n\n${end}`,
  );
}

/** Names of the tables on a page. */
function tablesOn(text) {
  return Array.from(text.matchAll(/<!-- options: (\w+) -->/g), (match) => match[1]);
}

function withFlags(table, command) {
  const rows = entries(table).map(([name, row]) => [
    code(name),
    range(row),
    defaultOf(row),
    flag(row, command),
    meaning(row),
  ]);
  return [['Option', 'Range', 'Default', `\`sgemoe ${command}\``, 'Meaning'], rows];
}

const entries = Object.entries;

function markdown(headings, rows) {
  return [headings, headings.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function code(text) {
  return `\`${text}\``;
}

function range({ must }) {
  return must.replace(/^an? /, '').replaceAll(/'([\w-]+)'/g, '`$1`');
}

function defaultOf({ absent, default: value }) {
  return absent ?? (value === undefined ? 'required' : shown(value));
}

function shown(value) {
  if (Array.isArray(value)) return 'none';
  return typeof value === 'string' ? code(JSON.stringify(value).slice(1, -1)) : String(value);
}

/** The flag, and its default if that differs from the option's. */
function flag({ cli, default: value, absent }) {
  if (cli === undefined) return '';
  const told = cli.absent ?? (cli.default === undefined ? undefined : shown(cli.default));
  const isSame = [undefined, absent, String(value)].includes(told) || typeof value === 'boolean';
  return isSame ? code(cli.flag) : `${code(cli.flag)} (${told})`;
}

function meaning({ doc, note }) {
  return note === undefined ? doc : `${doc}; ${note}`;
}

function pages() {
  const docs = path.join(ROOT, 'docs');
  return fs
    .readdirSync(docs)
    .filter((name) => name.endsWith('.md'))
    .map((name) => path.join(docs, name));
}

function main() {
  const stale = pages().filter((page) => {
    const text = fs.readFileSync(page, 'utf8');
    const fresh = render(text);
    if (fresh !== text && !process.argv.includes('--check')) fs.writeFileSync(page, fresh);
    return fresh !== text;
  });
  for (const page of stale) console.log(path.relative(ROOT, page));
  if (stale.length > 0 && process.argv.includes('--check')) {
    console.error('docs-tables: stale; npm run docs:tables writes them.');
    process.exitCode = 1;
  }
}

module.exports = { render, tablesOn, TABLES };
if (require.main === module) main();
