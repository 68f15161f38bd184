import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { formatBytes } from '../../base/formatBytes';
import { Engine } from '../../serve/engine/engine';
import { ENGINE_OPTIONS } from '../../serve/engine/options';
import { HTTP_OPTIONS, LISTEN_OPTIONS } from '../../serve/http/options';
import { type RunningServer, type ServeOptions, serve } from '../../serve/http/server';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import { addHubOptions, checkpointPath, type HubCliOptions, MODEL_ARGUMENT } from '../options/hubOptions';
import { addTableOptions, flagsOf, fromFlags } from '../options/tableOptions';
import { integer, someText } from '../options/values';
import { Interrupt } from '../terminal/interrupt';
import { type CliContext, type CliIo, EXIT } from '../terminal/io';
import { asUsage, UsageError } from '../terminal/usageError';

/** ENGINE_OPTIONS, HTTP_OPTIONS and LISTEN_OPTIONS have the others. */
interface ServeCliOptions extends DtypeCliOption, HubCliOptions {
  host: string;
  modelName?: string;
  apiKey?: string[];
  apiKeyFile?: string;
  grace: number;
}

const NOTES = `
The server has the routes of OpenAI's API for completions, chats and embeddings, and a page at / to try the model. It listens
to this machine only, unless --host says otherwise; then give keys. The log goes to stdout, a line of JSON for each request,
without prompts and texts. SIGTERM and Ctrl-C let running requests finish; a second one ends them.

Examples:
  $ sgemoe serve runs/book
  $ sgemoe serve runs/book --host 0.0.0.0 --port 80 --api-key-file keys.txt
  $ curl http://127.0.0.1:8000/v1/completions -H "content-type: application/json" -d '{"prompt":"Once"}'
`;

export function addServeCommand(program: Command, context: CliContext): void {
  const command = program
    .command('serve')
    .description("Serve a trained model over HTTP, as OpenAI's API does.")
    .argument('<model>', MODEL_ARGUMENT)
    .optionsGroup('Options:');
  addTableOptions(command, LISTEN_OPTIONS);
  addTableOptions(command, HTTP_OPTIONS, {
    collected: { apiKeys: COLLECTED, corsOrigins: COLLECTED, allowedHosts: COLLECTED },
  }).option('--api-key-file <file>', 'file with a key on each line (default: none)', someText);
  addHubOptions(addTableOptions(command, ENGINE_OPTIONS).addOption(dtypeOption()))
    .option(
      '--grace <s>',
      'seconds that requests have to end after SIGTERM, an integer >= 0',
      integer(0, 1_000_000),
      30,
    )
    .addHelpText('after', NOTES)
    .action(async (name: string, options: ServeCliOptions) => {
      context.exitCode = await serveCommand(name, options, context.io);
    });
}

const COLLECTED = {
  parse: (value: string, values: string[]) => [...values, someText(value)],
  first: [],
};

async function serveCommand(name: string, options: ServeCliOptions, io: CliIo): Promise<number> {
  const apiKeys = keysOf(options, io);
  const dir = await checkpointPath(name, options, io);
  if (apiKeys.length === 0 && !['127.0.0.1', 'localhost', '::1'].includes(options.host)) {
    io.stderr.write(`Anybody who reaches ${options.host} can use the model: --api-key asks for a key.\n`);
  }
  const interrupt = new Interrupt(io.signals);
  try {
    const engine = await Engine.open(dir, {
      ...fromFlags(ENGINE_OPTIONS, options),
      dtype: options.dtype,
    }).catch(blameOption);
    try {
      const server = await serve(serveOptions(name, options, engine, apiKeys, io)).catch(blameOption);
      const { resident, mapped } = engine.weightBytes;
      io.stderr.write(
        `Weights: ${formatBytes(resident)} in memory, ${formatBytes(mapped)} mapped from files.\n`,
      );
      io.stderr.write(`${name} is served at ${server.url}\n`);
      await aborted(interrupt.signal);
      await drain(server, engine, options.grace, io);
    } finally {
      await engine.close();
    }
  } finally {
    interrupt.release();
  }
  return EXIT.ok;
}

function serveOptions(
  name: string,
  options: ServeCliOptions,
  engine: Engine,
  apiKeys: string[],
  io: CliIo,
): ServeOptions {
  return {
    ...fromFlags(LISTEN_OPTIONS, options),
    ...fromFlags(HTTP_OPTIONS, options),
    engine,
    apiKeys,
    log: io.stdout,
    model: options.modelName ?? basename(resolve(name)),
  };
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

const FLAGS = new Map([...flagsOf(ENGINE_OPTIONS), ...flagsOf(LISTEN_OPTIONS), ...flagsOf(HTTP_OPTIONS)]);

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done());
  });
}

/** Refuses new requests and lets running ones end within `graceSeconds`. */
async function drain(server: RunningServer, engine: Engine, graceSeconds: number, io: CliIo): Promise<void> {
  const { running, waiting } = engine.metrics();
  io.stderr.write(`Closing: ${running + waiting} requests have ${graceSeconds} s to finish.\n`);
  const timer = setTimeout(() => void engine.close(), graceSeconds * 1000);
  await Promise.all([engine.close({ drain: true }), server.close({ graceMs: graceSeconds * 1000 })]);
  clearTimeout(timer);
}
