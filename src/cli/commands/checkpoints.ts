import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/formatBytes';
import type { KvCacheDtype } from '../../base/storageTypes';
import type { GgufFacts } from '../../checkpoint/gguf/ggufCheckpoint';
import { LORA_OPTIONS, type LoraOptions } from '../../config/loraOptions';
import { TRAIN_OPTIONS } from '../../config/trainConfig';
import { ARCHITECTURES, type Architecture, classNameOf } from '../../hf/architectures';
import { GGUF_DTYPES, type GgufDtype } from '../../hf/exportGguf';
import { EXPORT_DTYPES, type ExportDtype } from '../../hf/exportModel';
import {
  exportCheckpoint,
  exportGgufAdapterCheckpoint,
  exportGgufCheckpoint,
  importCheckpoint,
} from '../../model/convert';
import { type InspectedAdapters, type Inspection, inspectCheckpoint } from '../../model/inspect';
import type { MemoryBytes } from '../../model/memoryBytes';
import { ENGINE_OPTIONS } from '../../serve/engine/options';
import { type DtypeCliOption, dtypeOption } from '../options/dtypeOption';
import { inExpertFlags } from '../options/expertOptions';
import {
  addHubOptions,
  checkpointPath,
  type HubCliOptions,
  MODEL_ARGUMENT,
  RUNNABLE_ARGUMENT,
  runnablePath,
} from '../options/hubOptions';
import { addTableOptions, fromFlags } from '../options/tableOptions';
import { integer } from '../options/values';
import { formatCount } from '../terminal/format';
import type { CliContext, CliIo } from '../terminal/io';
import { UsageError, usageOf } from '../terminal/usageError';

const IMPORT_NOTES = `
Reads folders of ${ARCHITECTURES.map(classNameOf).join(', ')},
in one file or in shards. The other commands read them too, without an import. An import writes
float32, in one file, with sgemoe's config.json, and lists the keys of config.json that it ignores.

Examples:
  $ sgemoe import downloads/OLMoE-1B-7B --out models/olmoe
`;

const EXPORT_NOTES = `
Examples:
  $ sgemoe export runs/book --out exported
  $ sgemoe export runs/book --out exported --dtype bf16 --architecture mixtral
  $ sgemoe export runs/book --out book.gguf --gguf --dtype q8_0
  $ sgemoe export runs/adapter --out adapter.gguf --gguf --adapter-only
`;

const INSPECT_NOTES = `
Only headers are read, no weights. Memory is counted from the configuration: a forward takes weights and activations, and
generation also the keys and values of all tokens; a train step takes weights, gradients, AdamW's moments and activations. Of adapters,
those of a folder or of --lora-targets, it tells their parameters, bytes, and what training them beside the weights as stored takes.
With --ranks, the figures of trainings are those of one rank, whose batch is its share of --batch; with --expert-parallel, those of one
with most experts, to which as many rows come as it sends.

Examples:
  $ sgemoe inspect runs/book
  $ sgemoe inspect downloads/OLMoE-1B-7B --batch 4 --seq-len 1024 --tensors
  $ sgemoe inspect model.Q4_K_M.gguf --lora-targets all --lora-rank 16 --gradient-checkpointing
  $ sgemoe inspect runs/adapter
  $ sgemoe inspect runs/book --batch 32 --ranks 4 --micro-batches 8
  $ sgemoe inspect runs/book --json
`;

export function addCheckpointCommands(program: Command, { io }: CliContext): void {
  const note = (text: string) => io.stderr.write(`${text}\n`);
  const importing = program
    .command('import')
    .description('Turn a Hugging Face checkpoint into one of sgemoe.')
    .argument('<model>', MODEL_ARGUMENT)
    .requiredOption('--out <dir>', 'folder to write');
  addHubOptions(importing)
    .addHelpText('after', IMPORT_NOTES)
    .action(async (name: string, options: HubCliOptions & { out: string }) => {
      const { out } = options;
      const dir = await checkpointPath(name, options, io);
      const config = await importCheckpoint(dir, out, { onNote: note });
      io.stdout.write(`${out}: ${formatCount(config.totalParams())} parameters\n`);
    });
  const exporting = program
    .command('export')
    .description('Write a checkpoint for Hugging Face transformers, or a GGUF file for llama.cpp.')
    .argument('<model>', RUNNABLE_ARGUMENT)
    .requiredOption('--out <path>', 'folder to write; with --gguf the file, whose name ends in .gguf')
    .option('--gguf', 'write one GGUF file, tokenizer included (default: a folder)')
    .option(
      '--adapter-only',
      'with --gguf, of a folder of adapters: write these alone, for --lora of llama.cpp (default: added to the weights)',
    )
    .addOption(
      new Option(
        '--architecture <name>',
        'architecture to write (default: the first that can express the model)',
      ).choices(ARCHITECTURES),
    )
    .addOption(
      new Option('--dtype <name>', 'how weights are stored; q8_0 and q4_k_m with --gguf')
        .choices(GGUF_DTYPES)
        .default('f32'),
    );
  addHubOptions(exporting)
    .addHelpText('after', EXPORT_NOTES)
    .action(async (name: string, options: ExportCliOptions) => {
      const { out, gguf, architecture, dtype, adapterOnly } = options;
      if (adapterOnly && (!gguf || dtype !== 'f32'))
        throw new UsageError('--adapter-only goes with --gguf, and writes f32.');
      const dir = await runnablePath(name, options, io);
      if (gguf) {
        if (architecture !== undefined)
          throw new UsageError('--architecture does not go with --gguf, which has one form for a model.');
        if (adapterOnly) {
          const base = await usageOf(exportGgufAdapterCheckpoint(dir, out, { onNote: note }));
          io.stdout.write(`${out}: GGUF, adapters for ${base}, f32\n`);
          return;
        }
        const written = await usageOf(exportGgufCheckpoint(dir, out, { dtype, onNote: note }));
        io.stdout.write(`${out}: GGUF, ${written}, ${dtype}\n`);
        return;
      }
      if (!isExportDtype(dtype)) throw new UsageError(`--dtype ${dtype} goes with --gguf.`);
      const written = await usageOf(exportCheckpoint(dir, out, { architecture, dtype, onNote: note }));
      io.stdout.write(`${out}: ${classNameOf(written)}, ${dtype}\n`);
    });
  const inspecting = program
    .command('inspect')
    .description('Tell what a checkpoint holds and how much memory it takes.')
    .argument('<model>', RUNNABLE_ARGUMENT)
    .option('--batch <n>', 'sequences for which memory is counted, an integer >= 1', integer(1), 1)
    .option(
      '--seq-len <n>',
      "tokens of each sequence, an integer >= 1 (default: the model's context, at most 2048)",
      integer(1),
    )
    .addOption(dtypeOption());
  addTableOptions(inspecting, { kvCacheDtype: ENGINE_OPTIONS.kvCacheDtype });
  addTableOptions(inspecting, INSPECTED_LORA, {
    changes: { targets: { absent: 'no adapters are counted' } },
  });
  addTableOptions(inspecting, { gradientCheckpointing }).option(
    '--ranks <n>',
    'ranks that share the steps of trainings, an integer >= 1',
    integer(1),
    1,
  );
  addTableOptions(inspecting, { microBatches })
    .option(
      '--expert-parallel <n>',
      'of these ranks neighbouring ones that together have each expert once, a divisor of their number (default: 1, each has all)',
      integer(1),
    )
    .option('--tensors', 'list every tensor (default: one line for all)')
    .option('--json', 'print one JSON object, tensors included (default: lines)');
  addHubOptions(inspecting)
    .addHelpText('after', INSPECT_NOTES)
    .action((name: string, options: InspectCliOptions) => {
      if (options.loraTargets === undefined && inspecting.getOptionValueSource('loraRank') === 'cli')
        throw new UsageError('--lora-rank is of adapters; --lora-targets says which matrices get one.');
      return inspectCommand(name, options, io);
    });
}

interface ExportCliOptions extends HubCliOptions {
  out: string;
  gguf?: boolean;
  adapterOnly?: boolean;
  architecture?: Architecture;
  dtype: GgufDtype;
}

function isExportDtype(dtype: GgufDtype): dtype is ExportDtype {
  return (EXPORT_DTYPES as readonly string[]).includes(dtype);
}

const { targets, rank } = LORA_OPTIONS;
const INSPECTED_LORA = { targets, rank };

const { gradientCheckpointing, microBatches } = TRAIN_OPTIONS;

interface InspectCliOptions extends DtypeCliOption, HubCliOptions {
  batch: number;
  seqLen?: number;
  kvCacheDtype?: KvCacheDtype;
  loraTargets?: string[];
  gradientCheckpointing?: boolean;
  ranks: number;
  microBatches?: number;
  expertParallel?: number;
  tensors?: boolean;
  json?: boolean;
}

async function inspectCommand(name: string, options: InspectCliOptions, io: CliIo): Promise<void> {
  const { batch, seqLen, dtype, kvCacheDtype, gradientCheckpointing } = options;
  const { ranks, microBatches, expertParallel } = options;
  const lora: LoraOptions | undefined =
    options.loraTargets === undefined ? undefined : fromFlags(INSPECTED_LORA, options);
  const dir = await runnablePath(name, options, io);
  const found = await usageOf(
    inspectCheckpoint(dir, {
      batch,
      seqLen,
      dtype,
      kvCacheDtype,
      lora,
      gradientCheckpointing,
      ranks,
      microBatches,
      expertParallel,
    }),
    inExpertFlags,
  );
  if (options.json) {
    io.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
    return;
  }
  io.stdout.write(describe(found));
  if (options.tensors) io.stdout.write(tensorTable(found));
}

function describe({
  architecture,
  gguf,
  config,
  parameters,
  tensors,
  storedBytes,
  memory,
  ...rest
}: Inspection): string {
  const rows: [string, string][] = [
    ['format', formatOf(architecture, gguf)],
    ...(gguf === null ? [] : ggufRows(gguf)),
    [
      'parameters',
      `${parameters.total.toLocaleString('en-US')} (${parameters.active.toLocaleString('en-US')} active)`,
    ],
    ['tensors', `${formatCount(tensors.length)}, ${formatBytes(storedBytes)} of ${dtypesOf(tensors)}`],
  ];
  for (const [key, value] of Object.entries(config.toJSON())) {
    if (key !== 'model_type') rows.push([key, inLine(value)]);
  }
  rows.push(
    ['memory for', `batch ${rest.batch}, ${formatCount(rest.seqLen)} tokens each`],
    ['  inference', memoryOf(memory.inference)],
    ['  mapped', `${formatBytes(memory.mapped)} of the files on top, as much as there is room for`],
    ['  generation', `${formatBytes(memory.keyValueCache)} of keys and values on top`],
    ['  training', `${memoryOf(memory.training)}${sharing(rest)}`],
    ...(rest.adapters === null ? [] : adapterRows(rest.adapters)),
    ...rest.notes.map((text): [string, string] => ['note', text]),
  );
  return table(rows);
}

/** How a training is divided, unless it is one process's whole batch. */
function sharing({
  ranks,
  microBatches,
  expertParallel,
}: Pick<Inspection, 'ranks' | 'microBatches' | 'expertParallel'>): string {
  if (microBatches === 1) return '';
  const each = ranks === 1 ? '' : `, on each of ${formatCount(ranks)} ranks`;
  const experts = expertParallel === 1 ? '' : `, experts divided over ${formatCount(expertParallel)}`;
  return `, in ${formatCount(microBatches)} micro-batches${each}${experts}`;
}

function adapterRows({
  base,
  rank,
  alpha,
  targets,
  parameters,
  bytes,
  training,
}: InspectedAdapters): [string, string][] {
  const what = `${formatCount(targets.length)} of rank ${rank}, alpha ${alpha}`;
  return [
    ...(base === null ? [] : [['base', base] as [string, string]]),
    ['adapters', `${what}: ${parameters.toLocaleString('en-US')} parameters, ${formatBytes(bytes)}`],
    ['  training them', memoryOf(training)],
  ];
}

function formatOf(architecture: Architecture | null, gguf: GgufFacts | null): string {
  if (architecture === null) return 'sgemoe';
  const format = gguf === null ? 'Hugging Face' : `GGUF ${gguf.version}, ${gguf.architecture}`;
  return `${format}, ${classNameOf(architecture)}`;
}

function ggufRows({ general, tokenizer }: GgufFacts): [string, string][] {
  const told = ['name', 'license'].flatMap((key): [string, string][] =>
    general[key] === undefined ? [] : [[key, String(general[key])]],
  );
  if (tokenizer === null) return [...told, ['tokenizer', 'none']];
  const { kind, pre, tokens, chatTemplate } = tokenizer;
  const words = [kind, pre, `${formatCount(tokens)} tokens`, chatTemplate ? 'a chat template' : null];
  return [...told, ['tokenizer', words.filter((word) => word !== null).join(', ')]];
}

function memoryOf({ total, ...parts }: MemoryBytes): string {
  const needed = Object.entries(parts).filter(([, bytes]) => bytes > 0);
  return `${formatBytes(total)} (${needed.map(([name, bytes]) => `${name} ${formatBytes(bytes)}`).join(', ')})`;
}

function dtypesOf(tensors: Inspection['tensors']): string {
  return [...new Set(tensors.map(({ dtype }) => dtype))].join(', ') || 'nothing';
}

function tensorTable({ tensors }: Inspection): string {
  return table(tensors.map(({ name, dtype, shape }) => [name, `${dtype.padEnd(4)} [${shape.join(', ')}]`]));
}

function table(rows: readonly [string, string][]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
}

/** A value of config.json in a line: a list or an object without its brackets. */
function inLine(value: unknown): string {
  if (Array.isArray(value)) return value.join(', ') || 'none';
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([key, each]) => `${key} ${each}`)
    .join(', ');
}
