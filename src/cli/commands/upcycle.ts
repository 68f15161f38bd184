import type { Command } from 'commander';
import { UPCYCLE_OPTIONS } from '../../config/upcycleOptions';
import { classNameOf } from '../../hf/architectures';
import { type Upcycled, upcycleCheckpoint } from '../../model/upcycle';
import { addHubOptions, checkpointPath, type HubCliOptions, MODEL_ARGUMENT } from '../options/hubOptions';
import { addTableOptions, flagsOf, fromFlags } from '../options/tableOptions';
import { formatCount } from '../terminal/format';
import type { CliContext } from '../terminal/io';
import { usageOf } from '../terminal/usageError';

const FLAGS = flagsOf(UPCYCLE_OPTIONS);
const inFlags = (message: string) =>
  message.replace(/^upcycle: /, '').replaceAll(/\w+/g, (word) => FLAGS.get(word) ?? word);

const NOTES = `
Each feed-forward becomes --experts copies of itself behind a fresh router. Without --noise and --reinit the result computes what the dense
model computes, up to rounding, until it is trained. A Llama, Mistral or SmolLM becomes a Mixtral when it is exported, a Qwen3 a
Qwen3-MoE; a Qwen2 becomes a Qwen2-MoE with --shared-ffn-dim, and can't be exported without. With --top-k 1 routers learn from the
balance loss alone, since the only gate weight is always 1.

Examples:
  $ sgemoe upcycle models/dense --experts 8 --top-k 2 --out models/mixture
  $ sgemoe upcycle model.gguf --reinit 0.5 --out models/mixture
  $ sgemoe train --data book.txt --init-from models/mixture --out runs/mixture --lr 3e-4
`;

export function addUpcycleCommand(program: Command, { io }: CliContext): void {
  const command = program
    .command('upcycle')
    .description('Make a mixture of experts of a dense model.')
    .argument('<model>', MODEL_ARGUMENT)
    .requiredOption('--out <dir>', 'folder to write');
  addTableOptions(command, UPCYCLE_OPTIONS);
  addHubOptions(command)
    .addHelpText('after', NOTES)
    .action(async (name: string, values: HubCliOptions & { out: string }) => {
      const { out } = values;
      const dir = await checkpointPath(name, values, io);
      const onNote = (text: string) => io.stderr.write(`${text}\n`);
      const options = fromFlags(UPCYCLE_OPTIONS, values);
      const made = await usageOf(upcycleCheckpoint(dir, out, { ...options, onNote }), inFlags);
      io.stdout.write(`${out}: ${describe(made)}`);
    });
}

function describe({ config, architecture, obstacle }: Upcycled): string {
  const counts = `${formatCount(config.totalParams())} parameters, ${formatCount(config.activeParams())} used by a token`;
  const experts = `${config.nExperts} experts, ${config.topKExperts} for each token`;
  const form = architecture === null ? obstacle : `exports as ${classNameOf(architecture)}`;
  return `${experts}; ${counts}\n${form}\n`;
}
