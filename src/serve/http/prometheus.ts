import type { EngineMetrics, Histogram } from '../engine/types';

/** Prometheus' text format, version 0.0.4. */
export const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

type Labels = Readonly<Record<string, string | number>>;
type Sample = readonly [labels: Labels, value: number];

/**
 * The metrics in Prometheus' text format. @param models metrics of each model, by its name.
 * @param responses number of answers by status code.
 */
export function prometheusText(
  models: ReadonlyMap<string, EngineMetrics>,
  responses: ReadonlyMap<number, number>,
): string {
  /** The samples of each model, with its name. */
  const each = (samplesOf: (metrics: EngineMetrics) => readonly Sample[]): Sample[] =>
    [...models].flatMap(([model, metrics]) =>
      samplesOf(metrics).map(([labels, value]): Sample => [{ model, ...labels }, value]),
    );
  const value = (of: (metrics: EngineMetrics) => number) => each((metrics) => [[{}, of(metrics)]]);
  const outcomes = each(({ requests }) =>
    labelled(
      'outcome',
      Object.entries(requests).filter(([outcome]) => outcome !== 'accepted'),
    ),
  );
  const load = each(({ expertLoad }) =>
    expertLoad.flatMap((layer, i) => layer.map((count, expert): Sample => [{ layer: i, expert }, count])),
  );
  const histograms = (of: (metrics: EngineMetrics) => Histogram) =>
    [...models].map(([model, metrics]) => [{ model }, of(metrics)] as const);
  return [
    counter('requests_total', 'Jobs of the engine by how they ended.', outcomes),
    counter('http_responses_total', 'Answers by status code.', labelled('status', [...responses])),
    gauge(
      'requests_waiting',
      'Jobs that wait for a place in a batch.',
      value(({ waiting }) => waiting),
    ),
    gauge(
      'requests_running',
      'Jobs that are computed.',
      value(({ running }) => running),
    ),
    counter(
      'prompt_tokens_total',
      'Tokens of prompts.',
      value(({ promptTokens }) => promptTokens),
    ),
    counter(
      'reused_tokens_total',
      'Tokens of prompts that the cache still held.',
      value(({ reusedTokens }) => reusedTokens),
    ),
    counter(
      'completion_tokens_total',
      'Tokens made.',
      value(({ completionTokens }) => completionTokens),
    ),
    counter(
      'drafted_tokens_total',
      'Tokens that steps guessed.',
      value(({ speculation }) => speculation.draftedTokens),
    ),
    counter(
      'accepted_tokens_total',
      'Guessed tokens that were right.',
      value(({ speculation }) => speculation.acceptedTokens),
    ),
    gauge(
      'tokens_per_second',
      'Tokens made a second, over the last 10 seconds.',
      value(({ tokensPerSecond }) => tokensPerSecond),
    ),
    histogram(
      'time_to_first_token_seconds',
      'From a request to its first token.',
      histograms(({ timeToFirstToken }) => timeToFirstToken),
    ),
    histogram(
      'request_duration_seconds',
      'From a request to its end.',
      histograms(({ duration }) => duration),
    ),
    gauge(
      'cache_tokens',
      'Tokens in the key-value caches.',
      value(({ cache }) => cache.tokens),
    ),
    gauge(
      'cache_capacity_tokens',
      'Tokens that the key-value caches have room for.',
      value(({ cache }) => cache.capacity),
    ),
    counter('expert_tokens_total', 'Times that an expert was chosen for a token.', load),
    gauge(
      'workers_ready',
      'Workers that take requests.',
      value(({ workers }) => workers.ready),
    ),
    counter(
      'workers_replaced_total',
      'Workers that died and were replaced.',
      value(({ workers }) => workers.replaced),
    ),
    '',
  ].join('\n');
}

function labelled(label: string, entries: readonly (readonly [string | number, number])[]): Sample[] {
  return entries.map(([key, value]) => [{ [label]: key }, value]);
}

function counter(name: string, help: string, samples: readonly Sample[]): string {
  return family(name, 'counter', help, linesOf(name, samples));
}

function gauge(name: string, help: string, samples: readonly Sample[]): string {
  return family(name, 'gauge', help, linesOf(name, samples));
}

function histogram(name: string, help: string, all: readonly (readonly [Labels, Histogram])[]): string {
  const lines = all.flatMap(([labels, { bounds, counts, count, sum }]) => {
    let below = 0;
    const buckets = bounds.map((bound, i) => {
      below += counts[i];
      const le = bound === Number.POSITIVE_INFINITY ? '+Inf' : bound;
      return line(`${name}_bucket`, { ...labels, le }, below);
    });
    return [...buckets, line(`${name}_sum`, labels, sum), line(`${name}_count`, labels, count)];
  });
  return family(name, 'histogram', help, lines);
}

function linesOf(name: string, samples: readonly Sample[]): string[] {
  return samples.map(([labels, value]) => line(name, labels, value));
}

function family(name: string, type: string, help: string, lines: readonly string[]): string {
  return [`# HELP sgemoe_${name} ${help}`, `# TYPE sgemoe_${name} ${type}`, ...lines].join('\n');
}

function line(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([key, label]) => `${key}="${escaped(String(label))}"`);
  return `sgemoe_${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`;
}

function escaped(label: string): string {
  return label.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
