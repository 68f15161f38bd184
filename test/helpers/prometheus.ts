/** A strict reader of Prometheus' text format 0.0.4 with the lints of `promtool check metrics`. */
export interface Family {
  type: string;
  samples: { name: string; labels: Record<string, string>; value: number }[];
}

const NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: [''],
  gauge: [''],
  histogram: ['_bucket', '_sum', '_count'],
};

/** @throws Error that names the line and what is wrong. */
export function readMetrics(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  if (!text.endsWith('\n')) throw new Error('the last line must end');
  let name = '';
  let help = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    const [, keyword, named, rest] = /^# (HELP|TYPE) (\S+) (\S.*)$/.exec(line) ?? [];
    if (keyword === 'HELP') {
      if (help !== '') fail('a HELP without TYPE');
      if (families.has(named)) fail('a family twice');
      help = named;
    } else if (keyword === 'TYPE') {
      if (help !== named) fail('a TYPE without its HELP');
      if (!(rest in SUFFIXES) || !NAME.test(named)) fail('a type or name');
      lint(named, rest, fail);
      families.set(named, { type: rest, samples: [] });
      name = named;
      help = '';
    } else {
      const sample = readSample(line, fail);
      const family = families.get(name) ?? fail('a sample without a family');
      if (help !== '') fail('a sample between HELP and TYPE');
      if (!SUFFIXES[family.type].some((suffix) => sample.name === name + suffix))
        fail('a sample of another family');
      const same = (other: typeof sample) => JSON.stringify([other.name, other.labels]);
      if (family.samples.some((other) => same(other) === same(sample))) fail('a sample twice');
      if (family.type !== 'gauge' && !(sample.value >= 0)) fail('a count below 0');
      family.samples.push(sample);
    }
  }
  for (const [each, { type, samples }] of families) if (type === 'histogram') checkHistogram(each, samples);
  return families;
}

function lint(name: string, type: string, fail: (why: string) => never): void {
  if ((type === 'counter') !== name.endsWith('_total')) fail('_total is for counters, and for all of them');
  if (/_(count|sum|bucket|info)$/.test(name)) fail('a suffix of histograms');
  if (new RegExp(`_${type}`).test(name)) fail('a name with its type');
  if (/_(milliseconds|ms|minutes|kilobytes|mb|percent)(_|$)/.test(name)) fail('a unit that is no base unit');
  if (/[A-Z]/.test(name)) fail('a name in camel case');
}

function readSample(line: string, fail: (why: string) => never): Family['samples'][number] {
  const [, name, inner, value] = /^([a-zA-Z_]\w*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? fail('no sample');
  const labels: Record<string, string> = {};
  let rest = inner ?? '';
  while (rest !== '') {
    const [whole, label, escaped] =
      /^([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,(?=.)|$)/.exec(rest) ?? fail('a label');
    if (label in labels || label.startsWith('__')) fail('a label twice, or a reserved one');
    labels[label] = escaped.replaceAll(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    rest = rest.slice(whole.length);
  }
  if (!/^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|NaN|[+-]Inf)$/i.test(value)) fail('a number');
  return { name, labels, value: Number(value.replace('Inf', 'Infinity')) };
}

function checkHistogram(name: string, samples: Family['samples']): void {
  const series = new Map<string, Family['samples']>();
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels;
    const key = JSON.stringify(labels);
    series.set(key, [...(series.get(key) ?? []), sample]);
  }
  for (const each of series.values()) {
    const buckets = each.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => Number(labels.le.replace('Inf', 'Infinity')));
    const counts = buckets.map(({ value }) => value);
    const total = each.find((sample) => sample.name === `${name}_count`)?.value;
    const isSorted = (values: number[]) => values.every((value, i) => i === 0 || values[i - 1] <= value);
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY || !isSorted(bounds) || !isSorted(counts))
      throw new Error(`${name}: buckets must be cumulative and end with +Inf`);
    if (counts.at(-1) !== total || !each.some((sample) => sample.name === `${name}_sum`))
      throw new Error(`${name}: _sum and _count must be there, and _count equal the last bucket`);
  }
}
