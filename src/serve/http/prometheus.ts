import type { EngineMetrics, Histogram } from '../engine/types';

/** Prometheus' text format, version 0.0.4. */
export const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

type Labels = Readonly<Record<string, string | number>>;
type Sample = readonly [labels: Labels, value: number];

/** The metrics in Prometheus' text format. @param responses number of answers by status code. */
export function prometheusText(metrics: EngineMetrics, responses: ReadonlyMap<number, number>): string {
  const { requests, cache, workers } = metrics;
  const outcomes = Object.entries(requests).filter(([outcome]) => outcome !== 'accepted');
  const load = metrics.expertLoad.flatMap((layer, i) =>
    layer.map((count, expert): Sample => [{ layer: i, expert }, count]),
  );
  return [
    counter('requests_total', 'Jobs of the engine by how they ended.', labelled('outcome', outcomes)),
    counter('http_responses_total', 'Answers by status code.', labelled('status', [...responses])),
    gauge('requests_waiting', 'Jobs that wait for a place in a batch.', metrics.waiting),
    gauge('requests_running', 'Jobs that are computed.', metrics.running),
    counter('prompt_tokens_total', 'Tokens of prompts.', one(metrics.promptTokens)),
    counter('reused_tokens_total', 'Tokens of prompts that the cache still held.', one(metrics.reusedTokens)),
    counter('completion_tokens_total', 'Tokens made.', one(metrics.completionTokens)),
    gauge('tokens_per_second', 'Tokens made a second, over the last 10 seconds.', metrics.tokensPerSecond),
    histogram('time_to_first_token_seconds', 'From a request to its first token.', metrics.timeToFirstToken),
    histogram('request_duration_seconds', 'From a request to its end.', metrics.duration),
    gauge('cache_tokens', 'Tokens in the key-value caches.', cache.tokens),
    gauge('cache_capacity_tokens', 'Tokens that the key-value caches have room for.', cache.capacity),
    counter('expert_tokens_total', 'Times that an expert was chosen for a token.', load),
    gauge('workers_ready', 'Workers that take requests.', workers.ready),
    counter('workers_replaced_total', 'Workers that died and were replaced.', one(workers.replaced)),
    '',
  ].join('\n');
}

const one = (value: number): Sample[] => [[{}, value]];

function labelled(label: string, entries: readonly (readonly [string | number, number])[]): Sample[] {
  return entries.map(([key, value]) => [{ [label]: key }, value]);
}

function counter(name: string, help: string, samples: readonly Sample[]): string {
  return family(
    name,
    'counter',
    help,
    samples.map(([labels, value]) => line(name, labels, value)),
  );
}

function gauge(name: string, help: string, value: number): string {
  return family(name, 'gauge', help, [line(name, {}, value)]);
}

function histogram(name: string, help: string, { bounds, counts, count, sum }: Histogram): string {
  let below = 0;
  const buckets = bounds.map((bound, i) => {
    below += counts[i];
    return line(`${name}_bucket`, { le: bound === Number.POSITIVE_INFINITY ? '+Inf' : bound }, below);
  });
  const totals = [line(`${name}_sum`, {}, sum), line(`${name}_count`, {}, count)];
  return family(name, 'histogram', help, [...buckets, ...totals]);
}

function family(name: string, type: string, help: string, lines: readonly string[]): string {
  return [`# HELP sgemoe_${name} ${help}`, `# TYPE sgemoe_${name} ${type}`, ...lines].join('\n');
}

function line(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([key, label]) => `${key}="${label}"`);
  return `sgemoe_${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`;
}
