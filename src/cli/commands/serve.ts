import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Distributed } from '../../backend/collectives/distributed';
import type { SgemoeError } from '../../base/errors';
import { formatBytes } from '../../base/formatBytes';
import { ExpertShard } from '../../model/expertShard';
import { Engine } from '../../serve/engine/engine';
import { loadToServe } from '../../serve/engine/loadToServe';
import { ENGINE_OPTIONS, type EngineOptions } from '../../serve/engine/options';
import { HTTP_OPTIONS, LISTEN_OPTIONS, type ServedModel, servedNames } from '../../serve/http/options';
import { type RunningServer, serve } from '../../serve/http/server';
import { alikeOnAll } from '../../training/distributed/agreement';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import { addExpertOptions, type ExpertCliOptions } from '../options/expertOptions';
import { addHubOptions, type HubCliOptions, RUNNABLE_ARGUMENT, runnablePath } from '../options/hubOptions';
import { applyOptions, readConfigFile } from '../options/optionFiles';
import { type ModelToServe, modelsToServe, servedAdapters, servedAliases } from '../options/servedModels';
import { addRepeatable, addTableOptions, flagsOf, fromFlags } from '../options/tableOptions';
import { integer, someText } from '../options/values';
import { Interrupt } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { tellPrecision } from '../terminal/precisionNote';
import { asUsage, UsageError } from '../terminal/usageError';
import { followRank0, LOST_SECONDS, loadOnRanks } from './expertRanks';
import { onRanks } from './ranks';

/** ENGINE_OPTIONS, HTTP_OPTIONS and LISTEN_OPTIONS have the others. */
interface ServeCliOptions extends DtypeCliOption, HubCliOptions, ExpertCliOptions {
  config?: string;
  alias?: string[];
  adapter?: string[];
  host: string;
  modelName?: string;
  apiKey?: string[];
  apiKeyFile?: string;
  grace: number;
  drainDelay: number;
}

const NOTES = `
The server has the routes of OpenAI's API for completions, chats and embeddings, and a page at / to try the model. It listens
to this machine only, unless --host says otherwise; then give keys. The log goes to stdout, a line of JSON for each request,
without prompts and texts. SIGTERM and Ctrl-C let running requests finish; a second one ends them. Behind a balancer that asks
/ready, --drain-delay keeps taking requests until it has noticed.

Several models are served by their names: those of their folders, or NAME in NAME=PATH. The field "model" of a request chooses
one; a request without it gets the first. All have the options of the command line. Adapters of a model, as finetune --lora-targets and
Python's peft save them, are served beside it by the names MODEL:NAME; requests with different adapters are decoded together.

--config names a JSON file with any of these options, by their names without dashes (maxBatch for --max-batch), and "models",
a list of models: { "models": ["runs/book", "chat=model.gguf"], "port": 80, "apiKey": ["..."], "playground": false }. What the
command line says takes precedence.

Under mpirun the experts of one model are divided over the ranks, for a model that is too large for one machine: rank 0 answers, all
compute (docs/distributed.md).

Examples:
  $ sgemoe serve runs/book
  $ sgemoe serve runs/book chat=model.gguf --alias gpt-4o-mini=chat
  $ sgemoe serve models/chat --adapter polite=runs/polite --adapter short=runs/short
  $ sgemoe serve runs/book --host 0.0.0.0 --port 80 --api-key-file keys.txt
  $ mpirun --bind-to none --map-by ppr:1:node -n 4 sgemoe serve models/large
  $ curl http://127.0.0.1:8000/v1/completions -H "content-type: application/json" -d '{"prompt":"Once"}'
`;

export function addServeCommand(program: Command, context: CliContext): void {
  const command = program
    .command('serve')
    .description("Serve trained models over HTTP, as OpenAI's API does.")
    .argument('[models...]', `${RUNNABLE_ARGUMENT}; NAME=PATH names it`)
    .optionsGroup('Options:')
    .option(
      '--config <file>',
      'JSON file of these options; the command line takes precedence (default: none)',
    );
  addTableOptions(command, LISTEN_OPTIONS);
  addTableOptions(command, HTTP_OPTIONS, {
    collected: { apiKeys: COLLECTED, corsOrigins: COLLECTED, allowedHosts: COLLECTED },
  });
  addRepeatable(
    command,
    '--alias <alias=name>',
    'another name of a model, may be given several times; without =name that of the first (default: none)',
    COLLECTED,
  );
  addRepeatable(
    command,
    '--adapter <name=folder>',
    'adapter of the first model, of another as MODEL:NAME=FOLDER, may be given several times; requests name it MODEL:NAME (default: none)',
    COLLECTED,
  );
  command.option('--api-key-file <file>', 'file with a key on each line (default: none)', someText);
  addHubOptions(addExpertOptions(addTableOptions(command, ENGINE_OPTIONS).addOption(dtypeOption())))
    .option(
      '--grace <s>',
      'seconds that requests have to end after SIGTERM, an integer >= 0',
      integer(0, 1_000_000),
      30,
    )
    .option(
      '--drain-delay <s>',
      'seconds after SIGTERM in which /ready is 503 and requests are still taken, an integer >= 0',
      integer(0, 1_000_000),
      0,
    )
    .addHelpText('after', NOTES)
    .action(async (names: string[]) => {
      const models = await withConfigFile(command, names);
      const options = command.opts<ServeCliOptions>();
      context.exitCode = await onRanks(context.io, options, ({ ranks, io }) =>
        serveCommand(models, options, ranks, io),
      );
    });
}

const COLLECTED = {
  parse: (value: string, values: string[]) => [...values, someText(value)],
  first: [],
};

/** Applies --config. @returns the models of the command line, else those of the file. */
async function withConfigFile(command: Command, names: string[]): Promise<string[]> {
  const { config: path } = command.opts<ServeCliOptions>();
  if (path === undefined) return names;
  const { models = [], ...options } = await readConfigFile(path);
  const isList = Array.isArray(models) && models.every((each) => typeof each === 'string');
  if (!isList) throw new UsageError(`--config ${path}: models must be a list of texts.`);
  applyOptions(command, options, `--config ${path}`);
  return names.length > 0 ? names : models;
}

async function serveCommand(
  names: string[],
  options: ServeCliOptions,
  ranks: Distributed,
  io: CliIo,
): Promise<number> {
  const { apiKeys, models, adapters, aliases } = alikeOnAll(() => planned(names, options, ranks, io));
  // A wrong path is told before any model is loaded.
  if (ranks.size === 1) for (const { path } of models) await runnablePath(path, options, io);
  const ofEngine = fromFlags<EngineOptions>(ENGINE_OPTIONS, options);
  tellPrecision(ofEngine.precision, io);
  const interrupt = new Interrupt(io.signals);
  const served: ServedModel[] = [];
  let stopWatching = () => {};
  try {
    for (const [i, { name, path }] of models.entries()) {
      const own = { ...ofEngine, dtype: options.dtype, adapters: adapters[i] };
      const loaded = await loadOnRanks(ranks, path, options, io, (found, expertRanks) =>
        loadToServe(found, { ...own, expertRanks }).catch(blameOption),
      );
      if (loaded instanceof ExpertShard) {
        interrupt.release();
        return await followRank0(loaded, ranks, io, lostSeconds(options));
      }
      const { model, tokenizer, engineOptions } = loaded;
      const engine = await Engine.create(model, tokenizer, engineOptions).catch(blameOption);
      served.push({ name, engine });
    }
    if (ranks.size > 1) stopWatching = ranks.watch();
    const { model: _, ...http } = fromFlags(HTTP_OPTIONS, options);
    const listening = { ...fromFlags(LISTEN_OPTIONS, options), log: io.stdout };
    const all = { ...listening, ...http, models: served, aliases, apiKeys };
    const server = await serve(all).catch(blameOption);
    tellServed(models, served, server.url, io);
    const lost = await Promise.race([aborted(interrupt.signal), ...served.map(({ engine }) => engine.lost)]);
    if (lost) await tellLost(server, lost, lostSeconds(options), io);
    else await leaveBalancer(server, options.drainDelay, io);
    await drain(server, served, options.grace, io);
    if (lost) throw lost;
  } finally {
    stopWatching();
    await Promise.all(served.map(({ engine }) => engine.close()));
    interrupt.release();
  }
  return EXIT.ok;
}

/** What the command line says, checked without a look at the models. */
function planned(names: string[], options: ServeCliOptions, { size, rank }: Distributed, io: CliIo) {
  const models = modelsToServe(names, options.modelName);
  if (size > 1 && models.length > 1) {
    throw new UsageError(
      `mpirun divides the experts of one model over its ranks, got ${models.length} models.`,
    );
  }
  if (size > 1 && (options as { workers?: number }).workers !== 1) {
    throw new UsageError('--workers must be 1 under mpirun: one thread computes with the other ranks.');
  }
  const adapters = servedAdapters(options.adapter ?? [], models);
  const aliases = servedAliases(options.alias ?? [], models, adapters);
  // Only rank 0 listens, and files of keys may be only there.
  const apiKeys = rank === 0 ? keysOf(options, io) : [];
  if (apiKeys.length === 0 && !['127.0.0.1', 'localhost', '::1'].includes(options.host)) {
    const what = models.length > 1 ? 'models' : 'model';
    io.stderr.write(`Anybody who reaches ${options.host} can use the ${what}: --api-key asks for a key.\n`);
  }
  return { apiKeys, models, adapters, aliases };
}

/** How long clients and balancers are told that a rank is lost before the server ends. */
function lostSeconds({ drainDelay }: ServeCliOptions): number {
  return Math.max(LOST_SECONDS, drainDelay);
}

/** Requests have failed with the error; new ones and /ready are 503 until the server ends. */
async function tellLost(
  server: RunningServer,
  { message }: SgemoeError,
  seconds: number,
  io: CliIo,
): Promise<void> {
  server.startDraining();
  io.stderr.write(
    `${message.replace(/\.$/, '')}: requests are answered by 503 for ${seconds} s. Then start all ranks again.\n`,
  );
  await sleep(seconds * 1000);
}

function tellServed(models: ModelToServe[], served: ServedModel[], url: string, io: CliIo): void {
  const bytes = (of: 'resident' | 'mapped') =>
    formatBytes(served.reduce((sum, { engine }) => sum + engine.weightBytes[of], 0));
  io.stderr.write(`Weights: ${bytes('resident')} in memory, ${bytes('mapped')} mapped from files.\n`);
  const hasNames = models.length > 1 || served.some(({ engine }) => engine.adapters.length > 0);
  const shown = hasNames
    ? models.flatMap(({ name }, i) => servedNames(name, served[i].engine.adapters))
    : models.map(({ path }) => path);
  io.stderr.write(`${shown.join(', ')} ${shown.length > 1 ? 'are' : 'is'} served at ${url}\n`);
}

function keysOf({ apiKey = [], apiKeyFile }: ServeCliOptions, { env }: CliIo): string[] {
  const fromEnvironment = env.SGEMOE_API_KEY ?? '';
  const keys = [...apiKey, ...(fromEnvironment === '' ? [] : [fromEnvironment])];
  if (apiKeyFile !== undefined) keys.push(...keysInFile(apiKeyFile));
  if (keys.every((key) => !/\s/.test(key))) return keys;
  throw new UsageError('A key must not have spaces.');
}

/** The keys in a file. A file without keys is an error, since it would open to all what the user meant to close. */
function keysInFile(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new UsageError(`--api-key-file ${file} can not be read: ${(cause as Error).message}`, { cause });
  }
  const keys = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  if (keys.length === 0) throw new UsageError(`--api-key-file ${file} has no key in it.`);
  return keys.map((key) => key.trim());
}

/** Rethrows the library's error about an option with the name of its flag. */
function blameOption(error: unknown): never {
  return asUsage(
    () => {
      throw error;
    },
    (message) => message.replace(/^\w+: (\w+)/, (_, name: string) => FLAGS.get(name) ?? name),
  );
}

const FLAGS = new Map([
  ...flagsOf(ENGINE_OPTIONS),
  ...flagsOf(LISTEN_OPTIONS),
  ...flagsOf(HTTP_OPTIONS),
  ['aliases', '--alias'],
]);

function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((done) => {
    if (signal.aborted) done(null);
    else signal.addEventListener('abort', () => done(null));
  });
}

/** Lets balancers notice that the server leaves: until then they go on sending requests, which are taken. */
async function leaveBalancer(server: RunningServer, delaySeconds: number, io: CliIo): Promise<void> {
  server.startDraining();
  if (delaySeconds === 0) return;
  io.stderr.write(`/ready is 503 from now on; requests are taken for another ${delaySeconds} s.\n`);
  await sleep(delaySeconds * 1000);
}

/** Refuses new requests and lets running ones end within `graceSeconds`. */
async function drain(
  server: RunningServer,
  served: readonly ServedModel[],
  graceSeconds: number,
  io: CliIo,
): Promise<void> {
  const engines = served.map(({ engine }) => engine);
  const left = engines
    .map((engine) => engine.metrics())
    .reduce((sum, { running, waiting }) => sum + running + waiting, 0);
  io.stderr.write(`Closing: ${left} requests have ${graceSeconds} s to finish.\n`);
  const timer = setTimeout(() => {
    for (const engine of engines) void engine.close();
  }, graceSeconds * 1000);
  const closing = engines.map((engine) => engine.close({ drain: true }));
  await Promise.all([...closing, server.close({ graceMs: graceSeconds * 1000 })]);
  clearTimeout(timer);
}
