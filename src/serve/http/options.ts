import { checkInteger, checkOptions } from '../../base/checks';
import type { Engine } from '../engine/engine';

const KIB = 1024;
/** Completions that an unhurried machine needs minutes for end by this. */
const TIMEOUT_MS = 10 * 60_000;
const STALL_MS = 30_000;
const MAX_MS = 2 ** 31 - 1;

/** How an engine is served. All of it is checked when the server or plugin is made. */
export interface HttpOptions {
  /** What computes. It stays the caller's: closing the server leaves it open. */
  engine: Engine;
  /** Name of the model in requests and answers. Default 'sgemoe'. */
  model?: string | undefined;
  /** Keys of which each request must bring one, but those of /health, /ready and the page. Default: none is needed. */
  apiKeys?: readonly string[] | undefined;
  /** Origins, such as 'https://example.org', whose pages may read the answers; '*': all. Default: none. */
  corsOrigins?: readonly string[] | undefined;
  /** Names that a host header may have, without a port. Default: any, as long as one is there. */
  allowedHosts?: readonly string[] | undefined;
  /** Most new tokens that a request may ask for, an integer >= 1. Default: the engine's contextLength. */
  maxTokens?: number | undefined;
  /** Most bytes of a body, an integer >= 1. Default 1 MiB. */
  maxBodyBytes?: number | undefined;
  /** Most milliseconds that a request may take, an integer in [1, 2^31). Default 600,000. */
  timeoutMs?: number | undefined;
  /** An answer whose client takes nothing of it for so many milliseconds is ended, an integer in [1, 2^31). Default 30,000. */
  stallMs?: number | undefined;
  /** Serve the playground at '/'. Default true. */
  playground?: boolean | undefined;
  /** Log prompts and texts, too. Default false. */
  logPrompts?: boolean | undefined;
}

export interface ResolvedHttpOptions extends Required<Omit<HttpOptions, 'allowedHosts'>> {
  allowedHosts: readonly string[] | undefined;
}

const NAMES: readonly (keyof HttpOptions)[] = [
  ...(['engine', 'model', 'apiKeys', 'corsOrigins', 'allowedHosts', 'maxTokens', 'maxBodyBytes'] as const),
  ...(['timeoutMs', 'stallMs', 'playground', 'logPrompts'] as const),
];

/**
 * Checks options and puts the defaults in place. @param others names that belong to somebody else.
 * @throws TypeError or RangeError naming the option.
 */
export function resolveHttpOptions(
  options: HttpOptions,
  others: readonly string[] = [],
): ResolvedHttpOptions {
  checkOptions('serve', options, [...NAMES, ...others]);
  const { engine, model = 'sgemoe', allowedHosts, playground = true, logPrompts = false } = options;
  if (typeof engine?.stream !== 'function') {
    throw new TypeError(`serve: engine must be an Engine, got ${String(engine)}`);
  }
  if (typeof model !== 'string' || model === '') {
    throw new TypeError(`serve: model must be a text that is not empty, got ${String(model)}`);
  }
  const { apiKeys = [], corsOrigins = [] } = options;
  const lists = { apiKeys, corsOrigins, allowedHosts: allowedHosts ?? [] };
  for (const [name, list] of Object.entries(lists)) checkTexts(name, list);
  if (apiKeys.some((key) => /\s/.test(key))) throw new RangeError('serve: apiKeys must be without spaces');
  for (const [name, value] of Object.entries({ playground, logPrompts })) {
    if (typeof value !== 'boolean')
      throw new TypeError(`serve: ${name} must be a boolean, got ${String(value)}`);
  }
  return { engine, model, apiKeys, corsOrigins, allowedHosts, playground, logPrompts, ...limitsOf(options) };
}

function limitsOf(options: HttpOptions) {
  const { maxTokens = options.engine.contextLength, maxBodyBytes = KIB * KIB } = options;
  const { timeoutMs = TIMEOUT_MS, stallMs = STALL_MS } = options;
  const limits = { maxTokens, maxBodyBytes, timeoutMs, stallMs };
  for (const [name, value] of Object.entries(limits)) {
    checkInteger(`serve: ${name}`, value, 1);
    if (name.endsWith('Ms') && value > MAX_MS) {
      throw new RangeError(`serve: ${name} must be at most ${MAX_MS}, got ${value}`);
    }
  }
  return limits;
}

function checkTexts(name: string, list: unknown): void {
  if (Array.isArray(list) && list.every((text) => typeof text === 'string' && text !== '')) return;
  throw new TypeError(`serve: ${name} must be an array of texts that are not empty, got ${String(list)}`);
}
