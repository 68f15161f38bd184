import { checkOptions } from '../../base/checks';
import {
  boolean,
  choice,
  integer,
  isRecordOfTexts,
  namesOf,
  type OptionInfo,
  type OptionRow,
  type OptionTable,
  other,
  ownOptions,
  resolveOptions,
  text,
} from '../../base/options';
import { EMBEDDING_OPTIONS } from '../engine/embedOptions';
import type { Engine } from '../engine/engine';
import { LEVELS, type LogSink } from './log';

/** A model of a server that has several. */
export interface ServedModel {
  /** Name of the model in requests and answers, not empty. */
  name: string;
  /** The engine that computes. The caller owns it. */
  engine: Engine;
}

/**
 * Options of serving one engine (`engine`, `model`) or several (`models`). Requests name an adapter of an engine 'model:adapter'. All are checked when the server or plugin is made.
 */
export interface HttpOptions {
  /** The engine that computes. The caller owns it: closing the server leaves it open. Default: those of `models`. */
  engine?: Engine | undefined;
  /** Name of the model in requests and answers. Default 'sgemoe'. */
  model?: string | undefined;
  /** Several models instead, with their names; the field `model` of a request chooses, without it the first one answers. Default: `engine` alone. */
  models?: readonly ServedModel[] | undefined;
  /** Other names of models in requests: the name of a model by its alias. Default: none. */
  aliases?: Readonly<Record<string, string>> | undefined;
  /** Path in front of all routes, such as '/llm'. Default: none. */
  basePath?: string | undefined;
  /** Accepted API keys; every route except /health, /ping, /ready and the page requires one. Default: no key is needed. */
  apiKeys?: readonly string[] | undefined;
  /** Origins, such as 'https://example.org', whose pages may read the answers; '*' means all. Default: none. */
  corsOrigins?: readonly string[] | undefined;
  /** Names, without port, that the host header may have. Default: any name, but there must be one. */
  allowedHosts?: readonly string[] | undefined;
  /** The largest number of new tokens that a request may ask for, an integer >= 1. Default: the engine's contextLength. */
  maxTokens?: number | undefined;
  /** The largest number of choices of a request, `n` or `best_of` for each prompt, an integer >= 1. Default 128. */
  maxChoices?: number | undefined;
  /** The most requests of a key, or without keys of an address, that are answered at a time, an integer >= 1. Default: no limit. */
  maxRequestsPerKey?: number | undefined;
  /** The most tokens of prompts and completions of a key, or an address, in a minute, an integer >= 1. Default: no limit. */
  maxTokensPerMinute?: number | undefined;
  /** The largest number of responses of /v1/responses that are kept, in memory, an integer >= 0. Default 1,000. */
  maxResponses?: number | undefined;
  /** The largest number of bytes of the JSON of kept responses and their conversations, an integer >= 0. Default 64 MiB. */
  maxResponseBytes?: number | undefined;
  /** The largest body in bytes, an integer >= 1. Default 1 MiB. */
  maxBodyBytes?: number | undefined;
  /** Milliseconds after which a request is ended, an integer in [1, 2^31). Default 600,000. */
  timeoutMs?: number | undefined;
  /** Milliseconds after which a client that reads nothing is disconnected, an integer in [1, 2^31). Default 30,000. */
  stallMs?: number | undefined;
  /** How texts are embedded where a request is silent, as EmbeddingForm has it. Default 'mean'. */
  pooling?: 'mean' | 'last' | undefined;
  /** Whether embeddings are scaled to length 1 where a request is silent. Default false. */
  normalize?: boolean | undefined;
  /** Serves the playground at '/'. Default true. */
  playground?: boolean | undefined;
  /** Logs prompts and texts too. Default false. */
  logPrompts?: boolean | undefined;
}

export interface ListenOptions {
  /** Address to listen on. Default '127.0.0.1', which only this machine reaches. */
  host?: string | undefined;
  /** Port, an integer in [0, 65535]; 0 takes a free one. Default 8000. */
  port?: number | undefined;
  /** Receives the log, one line of JSON at a time. Default: no log. */
  log?: LogSink | undefined;
  /** The lowest level that is logged: 'trace', 'debug', 'info', 'warn', 'error', 'fatal' or 'silent'. Default 'info'. */
  logLevel?: string | undefined;
}

export interface ResolvedHttpOptions
  extends Required<Omit<HttpOptions, 'engine' | 'model' | Optional>>,
    Pick<HttpOptions, Optional> {}

/** Options that may stay undefined. */
type Optional = 'allowedHosts' | 'maxTokens' | 'maxRequestsPerKey' | 'maxTokensPerMinute';

/** The options by which the requests for one model are answered. */
export interface ModelOptions extends ResolvedHttpOptions {
  engine: Engine;
  /** The name in answers: that of the model, with an adapter 'model:adapter'. */
  model: string;
  /** The engine's adapter; undefined for the model as it is. */
  adapter: string | undefined;
  maxTokens: number;
}

const MIB = 2 ** 20;
const SECOND_MS = 1000;
/** Default timeout in seconds, enough for completions that take a slow machine minutes. */
const TIMEOUT_S = 600;
/** The range of timers. */
const MILLISECONDS = { min: 1, below: 2 ** 31 };
const SECONDS = integer({ min: 1, max: 1_000_000 }, { doc: '' });

/** Flags of `sgemoe serve`. */
export const LISTEN_OPTIONS: OptionTable<ListenOptions> = {
  host: text({
    doc: 'address to listen on; 0.0.0.0 is all addresses',
    default: '127.0.0.1',
    cli: { flag: '--host <address>' },
  }),
  port: integer(
    { min: 0, max: 65_535 },
    { doc: 'port to listen on', note: '0 takes a free one', default: 8000, cli: { flag: '--port <n>' } },
  ),
  log: other<LogSink>(
    'a sink with a method write',
    (value) => typeof (value as LogSink)?.write === 'function',
    {
      doc: 'receives the log, one line of JSON at a time, without prompts and texts',
      absent: 'none; the command writes to stdout',
    },
  ),
  logLevel: choice<string>(Object.keys(LEVELS), {
    doc: 'lowest level that is logged',
    default: 'info',
    cli: { flag: '--log-level <level>' },
  }),
};

/** Flags of `sgemoe serve`. */
export const HTTP_OPTIONS: OptionTable<HttpOptions> = {
  engine: other<Engine>('an Engine', isEngine, {
    doc: 'engine that computes the answers; the caller keeps it and closes it',
    absent: 'those of `models`',
  }),
  model: text({
    doc: 'name by which clients call the model',
    default: 'sgemoe',
    cli: { flag: '--model-name <name>', absent: 'the name of the folder' },
  }),
  models: other<readonly ServedModel[]>(
    'an array of { name, engine }, one at least',
    (value) => Array.isArray(value) && value.length > 0 && value.every(isServedModel),
    {
      doc: "several models instead; a request's `model` chooses, without it the first one answers",
      absent: '`engine` alone',
    },
  ),
  aliases: other<Readonly<Record<string, string>>>('an object from aliases to names', isRecordOfTexts, {
    doc: 'other names of models in requests: the name of a model by its alias',
    default: {},
    absent: 'none',
  }),
  basePath: other<string>(
    "a path such as '/llm'",
    (value) => typeof value === 'string',
    {
      doc: 'path in front of all routes',
      default: '',
      absent: 'none',
      cli: { flag: '--base-path <path>' },
    },
    (path) => /^(\/[\w.~-]+)*\/?$/.test(path),
  ),
  apiKeys: other<readonly string[]>(
    'an array of texts that are not empty, without spaces',
    isTexts,
    {
      doc: 'accepted API keys, compared in constant time; every route except /, /health, /ping and /ready requires one',
      default: [],
      absent: 'none is needed',
      cli: {
        flag: '--api-key <key>',
        doc: 'API key that requests must send; may be given several times',
        absent: 'none',
      },
    },
    (keys) => !keys.some((key) => /\s/.test(key)),
  ),
  corsOrigins: texts({
    doc: "origins whose pages may read the answers; '*' is all",
    default: [],
    absent: 'none',
    cli: {
      flag: '--cors-origin <origin>',
      doc: "origin whose pages may read the answers, '*' is all; may be given several times",
    },
  }),
  allowedHosts: texts({
    doc: 'names that a host header may have, without a port',
    absent:
      'on a loopback address only its own names, so that no web page reaches it by another name; else any',
    cli: {
      flag: '--allowed-host <name>',
      doc: 'another name of this host, such as behind a proxy; may be given several times',
      absent: 'none',
    },
  }),
  maxTokens: integer(
    { min: 1 },
    { doc: 'most new tokens of a request', absent: 'the context length', cli: { flag: '--max-tokens <n>' } },
  ),
  maxChoices: integer(
    { min: 1 },
    {
      doc: 'most choices of a request, `n` or `best_of` for each prompt',
      default: 128,
      cli: { flag: '--max-choices <n>', doc: 'most choices of a request, for all its prompts' },
    },
  ),
  maxRequestsPerKey: integer(
    { min: 1 },
    {
      doc: 'most requests of a key, or without keys of an address, at a time; more are refused with 429',
      absent: 'no limit',
      cli: { flag: '--max-requests-per-key <n>' },
    },
  ),
  maxTokensPerMinute: integer(
    { min: 1 },
    {
      doc: 'most tokens a minute of a key, or without keys of an address; more are refused with 429',
      absent: 'no limit',
      cli: { flag: '--max-tokens-per-minute <n>' },
    },
  ),
  maxResponses: integer(
    { min: 0 },
    {
      doc: 'most responses of /v1/responses that are kept, in memory',
      default: 1000,
      cli: { flag: '--max-responses <n>' },
    },
  ),
  maxResponseBytes: integer(
    { min: 0 },
    {
      doc: 'most bytes of the JSON of kept responses and their conversations',
      default: 64 * MIB,
      cli: { flag: '--max-response-bytes <bytes>' },
    },
  ),
  maxBodyBytes: integer(
    { min: 1 },
    { doc: 'most bytes of a request', default: MIB, cli: { flag: '--max-body <bytes>' } },
  ),
  timeoutMs: integer(MILLISECONDS, {
    doc: 'most milliseconds that a request may take; headers have 10 s to arrive, bodies a minute',
    default: TIMEOUT_S * SECOND_MS,
    cli: {
      flag: '--timeout <s>',
      doc: 'seconds that a request may take',
      default: TIMEOUT_S,
      kind: SECONDS,
      toOption: (seconds: number) => seconds * SECOND_MS,
    },
  }),
  stallMs: integer(MILLISECONDS, {
    doc: 'an answer is cut off when its client reads nothing for this many milliseconds',
    default: 30 * SECOND_MS,
  }),
  pooling: {
    ...EMBEDDING_OPTIONS.pooling,
    note: 'where a request is silent',
    cli: { flag: '--pooling <way>' },
  },
  normalize: {
    ...EMBEDDING_OPTIONS.normalize,
    note: 'where a request is silent',
    cli: { flag: '--normalize', absent: 'they are not scaled' },
  },
  playground: boolean({
    doc: 'serve the page at /, from memory, under a policy that lets it load nothing from elsewhere',
    default: true,
    cli: { flag: '--no-playground', doc: 'serve no page at /', absent: 'it is served' },
  }),
  logPrompts: boolean({
    doc: 'log prompts and texts, too',
    default: false,
    cli: { flag: '--log-prompts', absent: 'they are left out' },
  }),
};

/**
 * Checks options and fills in defaults. @param others option names that belong to another function.
 * @throws TypeError or RangeError that names the option.
 */
export function resolveHttpOptions(
  options: HttpOptions,
  others: readonly string[] = [],
): ResolvedHttpOptions {
  checkOptions('serve', options, [...namesOf<HttpOptions>(HTTP_OPTIONS), ...others]);
  const own = ownOptions<HttpOptions>(HTTP_OPTIONS, options);
  const { engine, model, ...resolved } = resolveOptions<HttpOptions>('serve', HTTP_OPTIONS, own);
  if ((engine === undefined) === (resolved.models === undefined)) {
    throw new TypeError('serve: there must be either an engine or models');
  }
  if (resolved.models !== undefined && options.model !== undefined) {
    throw new TypeError('serve: model must be absent beside models, which have names');
  }
  const { models = [{ name: model!, engine: engine! }] } = resolved;
  checkNames(models, resolved.aliases!);
  const basePath = resolved.basePath!.replace(/\/$/, '');
  return { ...(resolved as ResolvedHttpOptions), models, basePath };
}

/** The name by which requests choose a model with an adapter. */
export function adaptedName(model: string, adapter: string): string {
  return `${model}:${adapter}`;
}

/** The names of a model: its own, and with each of its adapters. */
export function servedNames(model: string, adapters: readonly string[]): string[] {
  return [model, ...adapters.map((adapter) => adaptedName(model, adapter))];
}

/** @throws RangeError for a name that stands twice, or an alias of no model. */
function checkNames(models: readonly ServedModel[], aliases: Readonly<Record<string, string>>): void {
  const names = models.map(({ name }) => name);
  const withAdapters = models.flatMap(({ name, engine }) => servedNames(name, engine.adapters ?? []));
  const twice = [...names, ...Object.keys(aliases)].find((name, i, all) => all.indexOf(name) !== i);
  if (twice !== undefined)
    throw new RangeError(`serve: models and aliases must differ, got '${twice}' twice`);
  for (const [alias, name] of Object.entries(aliases)) {
    if (withAdapters.includes(name)) continue;
    throw new RangeError(
      `serve: aliases: '${alias}' must name one of ${withAdapters.join(', ')}, got '${name}'`,
    );
  }
}

function isServedModel(value: unknown): boolean {
  const { name, engine } = (value ?? {}) as Partial<ServedModel>;
  return typeof name === 'string' && name !== '' && isEngine(engine);
}

function isEngine(value: unknown): boolean {
  return typeof (value as Engine)?.stream === 'function';
}

function texts(info: OptionInfo<readonly string[]>): OptionRow<readonly string[]> {
  return other('an array of texts that are not empty', isTexts, info);
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === 'string' && each !== '');
}
