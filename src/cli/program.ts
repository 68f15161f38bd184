import { Command } from 'commander';
import { packageVersion } from '../base/version';
import { addBuildCommand } from './commands/build';
import { addChatCommand } from './commands/chat';
import { addCheckpointCommands } from './commands/checkpoints';
import { addDataCommand } from './commands/data';
import { addEvalCommand } from './commands/eval';
import { addFinetuneCommand } from './commands/finetune';
import { addGenerateCommand } from './commands/generate';
import { addInfoCommand } from './commands/info';
import { addMergeCommand } from './commands/merge';
import { addPruneCommand } from './commands/prune';
import { addPullCommand } from './commands/pull';
import { addQuantizeCommand } from './commands/quantize';
import { addReportCommand } from './commands/report';
import { addServeCommand } from './commands/serve';
import { addTokenizerCommand } from './commands/tokenizer';
import { addTrainCommand } from './commands/train';
import { addUpcycleCommand } from './commands/upcycle';
import { type CliContext, type CliIo, EXIT } from './terminal/io';
import { reportError } from './terminal/usageError';

const NOTES = `
Environment:
  SGEMOE_THREADS=1..256  threads, as --threads
  SGEMOE_BACKEND=auto|openblas|accelerate|blas|builtin|wasm|reference
                         what computes; default auto, the fastest that loads
  SGEMOE_BLAS=<file>     a library with cblas_sgemm to use
  SGEMOE_MEMORY_LIMIT=<bytes>|none
                         memory a model may take, such as 12GB; default what the machine has
  SGEMOE_API_KEY=<key>   key of sgemoe serve, as --api-key
  HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE=1, HF_ENDPOINT
                         models of the hub (sgemoe pull), as Python's huggingface_hub has them
  SGEMOE_DEBUG=1         print the stack of an error

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

Examples:
  $ sgemoe train --data book.txt --out runs/book
  $ sgemoe generate runs/book --prompt "Once upon a time"
`;

/** Runs a command line (without node and script) and returns the exit code. */
export async function main(argv: readonly string[], io: CliIo): Promise<number> {
  const context: CliContext = { io, exitCode: EXIT.ok };
  try {
    await createProgram(context).parseAsync(argv, { from: 'user' });
    return context.exitCode;
  } catch (error) {
    return reportError(error, io);
  }
}

function createProgram(context: CliContext): Command {
  const { stdout, stderr } = context.io;
  const program = new Command('sgemoe')
    .description('Train Mixture-of-Experts transformers on the CPU, and let them write.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', NOTES)
    .exitOverride()
    .showHelpAfterError('(--help lists what there is)')
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      getOutHelpWidth: () => stdout.columns || 100,
      getErrHelpWidth: () => stderr.columns || 100,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  addTrainCommand(program, context);
  addFinetuneCommand(program, context);
  addGenerateCommand(program, context);
  addChatCommand(program, context);
  addServeCommand(program, context);
  addEvalCommand(program, context);
  addReportCommand(program, context);
  addTokenizerCommand(program, context);
  addDataCommand(program, context);
  addCheckpointCommands(program, context);
  addQuantizeCommand(program, context);
  addUpcycleCommand(program, context);
  addMergeCommand(program, context);
  addPullCommand(program, context);
  addInfoCommand(program, context);
  addBuildCommand(program, context);
  addPruneCommand(program, context);
  return program;
}
