import type { Command } from 'commander';
import { mergeCheckpoint } from '../../model/convert';
import { addHubOptions, checkpointPath, type HubCliOptions, MODEL_ARGUMENT } from '../options/hubOptions';
import type { CliContext } from '../terminal/io';

const NOTES = `
The adapter is a folder with adapter_config.json and adapter_model.safetensors, of sgemoe or of Python's peft. What is written is a whole
checkpoint in float32 that computes what the model with the adapter computes, up to rounding; quantize makes it small.

Example:
  $ sgemoe merge models/base runs/tuned/adapter --out models/tuned
`;

export function addMergeCommand(program: Command, { io }: CliContext): void {
  const command = program
    .command('merge')
    .description("Add an adapter to a model's weights and write the whole.")
    .argument('<model>', MODEL_ARGUMENT)
    .argument('<adapter>', 'folder of the adapter')
    .requiredOption('--out <dir>', 'folder to write');
  addHubOptions(command)
    .addHelpText('after', NOTES)
    .action(async (name: string, adapter: string, values: HubCliOptions & { out: string }) => {
      const dir = await checkpointPath(name, values, io);
      const onNote = (text: string) => io.stderr.write(`${text}\n`);
      const { adapters, options } = await mergeCheckpoint(dir, adapter, values.out, { onNote });
      const what = `${adapters.length} adapters of rank ${options.rank} added to the weights`;
      io.stdout.write(`${values.out}: ${what}\n`);
    });
}
