import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/formatBytes';
import { MATRIX_TYPES, type MatrixTypes } from '../../config/matrixTypes';
import { quantizeCheckpoint } from '../../model/quantize';
import { addHubOptions, checkpointPath, type HubCliOptions, MODEL_ARGUMENT } from '../options/hubOptions';
import type { CliContext } from '../terminal/io';

const NOTES = `
Embeddings, attention, experts and the output are rounded; routers, norms and biases become float32. Rows that aren't whole blocks of the
type (256 numbers of q4_k, q5_k and q6_k, 32 of the others) take the type that llama.cpp takes. Tensors pass one after the other, so the
model need not fit into the memory. What is written serves; it is not trained further. eval tells what the rounding costs.

Examples:
  $ sgemoe quantize runs/book --dtype q8_0 --out book-q8
  $ sgemoe eval runs/book --data test.txt && sgemoe eval book-q8 --data test.txt
`;

interface QuantizeCliOptions extends HubCliOptions {
  out: string;
  dtype: MatrixTypes;
}

export function addQuantizeCommand(program: Command, { io }: CliContext): void {
  const command = program
    .command('quantize')
    .description('Write a checkpoint with smaller types of matrices.')
    .argument('<model>', MODEL_ARGUMENT)
    .requiredOption('--out <dir>', 'folder to write')
    .addOption(
      new Option('--dtype <type>', "types of the matrices; q4_k_m is llama.cpp's mixture")
        .choices(MATRIX_TYPES)
        .default('q8_0'),
    );
  addHubOptions(command)
    .addHelpText('after', NOTES)
    .action(async (name: string, options: QuantizeCliOptions) => {
      const { out, dtype } = options;
      const dir = await checkpointPath(name, options, io);
      const onNote = (text: string) => io.stderr.write(`${text}\n`);
      const { bytes } = await quantizeCheckpoint(dir, out, { dtype, onNote });
      io.stdout.write(`${out}: ${dtype}, ${formatBytes(bytes.before)} became ${formatBytes(bytes.after)}\n`);
    });
}
