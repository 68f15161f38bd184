/** Tables of options: docs/ has tables written from them, docstrings tell their defaults, CONTRIBUTING.md names their files. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import type { OptionRow } from '../../src/base/options';
import { LORA_OPTIONS } from '../../src/config/loraOptions';
import { MODEL_OPTIONS } from '../../src/config/modelOptions';
import { TRAIN_OPTIONS } from '../../src/config/trainConfig';
import { UPCYCLE_OPTIONS } from '../../src/config/upcycleOptions';
import { SAMPLING_OPTIONS } from '../../src/sampling/options';
import { ENGINE_OPTIONS } from '../../src/serve/engine/options';
import { HTTP_OPTIONS, LISTEN_OPTIONS } from '../../src/serve/http/options';
import { CHAT_FIELDS, COMMON_FIELDS, COMPLETION_FIELDS } from '../../src/serve/http/requestFields';
import { BETA_OPTION, CHAT_DATA_OPTIONS } from '../../src/text/chats/options';
import { EARLY_STOPPING_OPTIONS } from '../../src/training/earlyStopping';
import { WINDOW_OPTIONS } from '../../src/training/evaluateText';
import { RUN_OPTIONS } from '../../src/training/run/runOptions';
import { SAMPLE_OPTIONS } from '../../src/training/run/samples';
import { ROOT, readPage, readPages, tableRowsOf } from './markdown';

const { render, tablesOn, TABLES } = require('../../scripts/docs-tables.js') as {
  render(text: string): string;
  tablesOn(text: string): string[];
  TABLES: Record<string, unknown>;
};

type Table = Record<string, OptionRow<never>>;
interface Family {
  table: unknown;
  source: string;
  /** The interface whose fields are the rows. */
  type: string;
  page: string;
}

const FAMILIES: Family[] = [
  {
    table: MODEL_OPTIONS,
    source: 'src/config/modelOptions.ts',
    type: 'ModelConfigOptions',
    page: 'docs/training.md',
  },
  {
    table: TRAIN_OPTIONS,
    source: 'src/config/trainConfig.ts',
    type: 'TrainConfig',
    page: 'docs/training.md',
  },
  {
    table: LORA_OPTIONS,
    source: 'src/config/loraOptions.ts',
    type: 'LoraOptions',
    page: 'docs/fine-tuning.md',
  },
  {
    table: UPCYCLE_OPTIONS,
    source: 'src/config/upcycleOptions.ts',
    type: 'UpcycleOptions',
    page: 'docs/upcycling.md',
  },
  {
    table: CHAT_DATA_OPTIONS,
    source: 'src/text/chats/options.ts',
    type: 'ChatDatasetOptions',
    page: 'docs/fine-tuning.md',
  },
  {
    table: BETA_OPTION,
    source: 'src/text/chats/options.ts',
    type: 'PreferenceDatasetOptions',
    page: 'docs/fine-tuning.md',
  },
  {
    table: SAMPLING_OPTIONS,
    source: 'src/sampling/options.ts',
    type: 'SamplingOptions',
    page: 'docs/generation.md',
  },
  {
    table: RUN_OPTIONS,
    source: 'src/training/run/runOptions.ts',
    type: 'TrainingRunOptions',
    page: 'docs/training.md',
  },
  {
    table: EARLY_STOPPING_OPTIONS,
    source: 'src/training/earlyStopping.ts',
    type: 'EarlyStoppingOptions',
    page: 'docs/training.md',
  },
  {
    table: SAMPLE_OPTIONS,
    source: 'src/training/run/samples.ts',
    type: 'SampleOptions',
    page: 'docs/training.md',
  },
  {
    table: WINDOW_OPTIONS,
    source: 'src/training/evaluateText.ts',
    type: 'WindowOptions',
    page: 'docs/evaluation.md',
  },
  {
    table: ENGINE_OPTIONS,
    source: 'src/serve/engine/options.ts',
    type: 'EngineOptions',
    page: 'docs/serving.md',
  },
  { table: HTTP_OPTIONS, source: 'src/serve/http/options.ts', type: 'HttpOptions', page: 'docs/serving.md' },
  {
    table: LISTEN_OPTIONS,
    source: 'src/serve/http/options.ts',
    type: 'ListenOptions',
    page: 'docs/serving.md',
  },
];
const families = FAMILIES.map((family) => [family.type, family] as const);

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

/** What the docstrings of an interface say, by field. */
function docstrings({ source, type }: Family): Map<string, string> {
  const file = ts.createSourceFile(source, read(source), ts.ScriptTarget.Latest, true);
  const found = file.statements.find((node) => ts.isInterfaceDeclaration(node) && node.name.text === type);
  return new Map(
    (found as ts.InterfaceDeclaration).members.map((member) => [
      member.name!.getText(),
      ts
        .getJSDocCommentsAndTags(member)
        .map((doc) => doc.getText())
        .join(' '),
    ]),
  );
}

/** Files named in a section of CONTRIBUTING.md. */
function recipe(heading: string): string[] {
  const [, section] = new RegExp(`^## ${heading}\\n([\\s\\S]*?)^## `, 'm').exec(read('CONTRIBUTING.md'))!;
  return [...section.matchAll(/`((?:src|docs|test)\/[\w./-]+)`/g)].map(([, path]) => path);
}

describe('the tables in docs/', () => {
  const docs = readPages().filter(({ path }) => /^docs\/[\w-]+\.md$/.test(path));

  it('stand once each, and are what `npm run docs:tables` writes', () => {
    expect(docs.flatMap(({ text }) => tablesOn(text)).sort()).toEqual(Object.keys(TABLES).sort());
    for (const { path, text } of docs) expect(render(text), path).toBe(text);
  });

  it('that are stale are seen', () => {
    const { text } = readPage('docs/generation.md');
    const stale = text.replace('(0.8)', '(0.7)');
    expect(stale).not.toBe(text);
    expect(render(stale)).toBe(text);
  });
});

describe.each(families)('%s', (_, family) => {
  const table = family.table as Table;

  it('has a docstring for each row, which tells its default', () => {
    const told = docstrings(family);
    expect([...told.keys()].sort()).toEqual(Object.keys(table).sort());
    for (const [name, { default: value, absent }] of Object.entries(table)) {
      const [, words] = /Default:? (.*?)(?:\.\s|\.?$|\.? \*\/|: )/.exec(told.get(name)!) ?? [];
      if (value === undefined && absent === undefined) expect(words, name).toBeUndefined();
      else expect(words, name).toBeTruthy();
      if (typeof value === 'number' && absent === undefined && !words.endsWith('MiB')) {
        expect(Number.parseFloat(words.replaceAll(',', '')), name).toBe(value);
      } else if (typeof value === 'boolean' || typeof value === 'string') {
        expect(words, name).toContain(String(value));
      }
    }
  });

  it('takes its own defaults', () => {
    for (const [name, { default: value, isType, holds }] of Object.entries(table)) {
      if (value !== undefined) expect([isType(value), holds(value)], name).toEqual([true, true]);
    }
  });

  it('is where CONTRIBUTING.md says, row and field, and on its page', () => {
    expect(recipe('Adding an option')).toEqual(expect.arrayContaining([family.source, family.page]));
    const source = read(family.source);
    const rows = tableRowsOf(readPage(family.page)).map((row) => row.Option);
    for (const name of Object.keys(table)) {
      expect(source.match(new RegExp(`^  ${name}\\??:`, 'gm'))?.length, name).toBeGreaterThanOrEqual(2);
      expect(rows).toContain(`\`${name}\``);
    }
  });

  it('has its flags from its rows alone', () => {
    const cli = readdirSync(join(ROOT, 'src/cli'), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts'))
      .map((path) => read(join('src/cli', path)))
      .join('\n');
    const flags = Object.values(table).flatMap((row) => row.cli?.flag ?? []);
    // `inspect` counts memory for a length of its own, texts are split by their tokens.
    const others = ['--seq-len <n>', '--validation-fraction <x>'];
    const twice = flags.filter((flag) => !others.includes(flag) && cli.includes(`'${flag}'`));
    expect(flags.length).toBeGreaterThan(0);
    expect(twice).toEqual([]);
  });
});

it('a field of a request is where CONTRIBUTING.md says, and tested', () => {
  const paths = recipe('Adding a field to a request');
  expect(paths).toEqual(
    expect.arrayContaining([
      'src/serve/http/requestFields.ts',
      'docs/serving.md',
      'test/serve/fields.test.ts',
    ]),
  );
  const names = [COMMON_FIELDS, COMPLETION_FIELDS, CHAT_FIELDS].flatMap((table) => Object.keys(table));
  for (const path of paths.filter((each) => !each.endsWith('requests.ts'))) {
    const text = read(path);
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text))).toEqual([]);
  }
});
