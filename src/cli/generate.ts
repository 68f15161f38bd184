import type { Command } from 'commander';
import { getKernels } from '../backend';
import { loadCheckpoint } from '../checkpoint/checkpoint';
import { RandomSampling } from '../generate';
import { MoETransformer } from '../model';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer';
import { UsageError } from './errors';
import { formatRate } from './format';
import { Interrupt } from './interrupt';
import { type CliContext, type CliIo, EXIT } from './io';
import { decimal, integer } from './options';
import { writeText } from './text';

interface GenerateCliOptions {
  prompt: string;
  chat?: boolean;
  echo?: boolean;
  maxTokens: number;
  temperature: number;
  topK?: number;
  topP: number;
  seed: number;
  threads?: number;
}

/** What an empty prompt stands for: the end of a line, after which a text may begin. */
const EMPTY_PROMPT = '\n';

/** Measured: packing the weights takes what some 20 tokens gain by it. */
const FREEZE_FROM_TOKENS = 32;

const NOTES = `
The text goes to stdout as it is written, figures go to stderr. Ctrl-C ends the text early. The model looks at the last
tokens only, as many as it was trained for: a longer text is written through a sliding window. The same checkpoint,
prompt, options and seed give the same text.

Examples:
  $ sgemoe generate runs/book --prompt "Once upon a time" --max-tokens 300
  $ sgemoe generate runs/book --prompt "Once" --temperature 0          # always the most probable token
  $ sgemoe generate runs/book --prompt - --top-p 0.9 < beginning.txt > continued.txt
`;

export function addGenerateCommand(program: Command, context: CliContext): void {
  program
    .command('generate')
    .description('Continue a prompt with a trained model.')
    .argument('<dir>', 'folder of a checkpoint, such as the --out of sgemoe train')
    .optionsGroup('Options:')
    .option('--prompt <text>', "text to continue; '-' reads stdin, '' stands for a line break", '')
    .option(
      '--chat',
      "let the model answer the prompt, put into its tokenizer's chat template (default: continue the prompt)",
    )
    .option('--echo', 'write the prompt to stdout before the text (default: only new text)')
    .option(
      '--max-tokens <n>',
      'new tokens (bytes, with the byte tokenizer), an integer >= 0; an end-of-text token ends the text before',
      integer(0),
      256,
    )
    .option(
      '--temperature <t>',
      'a number >= 0: below 1 plays safe, above 1 varies, 0 always takes the most probable token',
      decimal({ min: 0 }),
      0.8,
    )
    .option(
      '--top-k <k>',
      'draw from the k most probable tokens only, an integer >= 1 (default: all)',
      integer(1),
    )
    .option(
      '--top-p <p>',
      'draw from the most probable tokens that together have probability p, 0 < p <= 1; 1 is all',
      decimal({ above: 0, max: 1 }),
      1,
    )
    .option(
      '--seed <n>',
      'of the random choices, an integer in 0..2^53-1',
      integer(0, Number.MAX_SAFE_INTEGER),
      42,
    )
    .option('--threads <n>', 'threads, in 1..256 (default: one per core)', integer(1, 256))
    .addHelpText('after', NOTES)
    .action(async (dir: string, options: GenerateCliOptions) => {
      context.exitCode = await generateCommand(dir, options, context.io);
    });
}

async function generateCommand(dir: string, options: GenerateCliOptions, io: CliIo): Promise<number> {
  if (options.threads !== undefined) getKernels().setThreads(options.threads);
  const tokenizer = await readTokenizer(dir);
  const model = await MoETransformer.load(dir);
  if (tokenizer.vocabSize > model.vocabSize) {
    throw new UsageError(
      `The tokenizer in ${dir} has ${tokenizer.vocabSize} tokens, its model ${model.vocabSize}: ` +
        'the folder mixes two checkpoints.',
    );
  }
  const prompt = options.prompt === '-' ? await readAll(io.stdin) : new TextEncoder().encode(options.prompt);
  if (options.echo) io.stdout.write(new TextDecoder().decode(prompt));
  const ids = encodePrompt(tokenizer, prompt, options.chat ?? false);
  if (options.maxTokens >= FREEZE_FROM_TOKENS) model.freeze();
  const { temperature, topK, topP, seed } = options;
  const strategy = new RandomSampling({ temperature, topK, topP, seed });
  const interrupt = new Interrupt(io.signals);
  const started = performance.now();
  const tokens = await writeText(model, tokenizer, ids, {
    maxTokens: options.maxTokens,
    strategy,
    signal: interrupt.signal,
    write: (text) => io.stdout.write(text),
  }).finally(() => interrupt.release());
  if (io.stdout.isTTY) io.stdout.write('\n');
  const seconds = (performance.now() - started) / 1000;
  const stopped = interrupt.aborted ? ', stopped early' : '';
  io.stderr.write(
    `${tokens} tokens in ${seconds.toFixed(2)} s, ${formatRate(tokens / seconds)} tokens/s${stopped}\n`,
  );
  return interrupt.aborted ? EXIT.interrupted : EXIT.ok;
}

function encodePrompt(tokenizer: Tokenizer, prompt: Uint8Array, chat: boolean): Int32Array {
  if (!chat) return tokenizer.encode(prompt.length === 0 ? EMPTY_PROMPT : prompt, { addSpecialTokens: true });
  const messages = [{ role: 'user', content: new TextDecoder().decode(prompt) }];
  return tokenizer.encode(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }));
}

async function readTokenizer(dir: string): Promise<Tokenizer> {
  const { tokenizer, tokenizerConfig, chatTemplate, tensors } = await loadCheckpoint(dir);
  await tensors.close();
  if (tokenizer === null) {
    throw new UsageError(
      `${dir} has no tokenizer.json, so text can't be turned into the model's tokens; ` +
        'the library generates from token ids without one.',
    );
  }
  return loadTokenizer(tokenizer, { tokenizerConfig, chatTemplate });
}

async function readAll(stream: CliIo['stdin']): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) {
    chunks.push(typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk);
  }
  return Buffer.concat(chunks);
}
