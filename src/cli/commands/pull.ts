import type { Command } from 'commander';
import { pullFrom } from '../../hf/hub/pull';
import { addHubOptions, type HubCliOptions, whileTold } from '../options/hubOptions';
import type { CliContext } from '../terminal/io';

const NOTES = `
The name is 'org/name', 'org/name@revision', and for a repository with GGUF files 'org/name:file.gguf' or, by its
quantization, 'org/name:Q4_K_M'. Only what sgemoe reads is downloaded: the safetensors with config.json and the tokenizer, or
one GGUF file. Files go to the cache folder that Python's huggingface_hub has, too, and each is checked. A download that was
stopped goes on where it ended. The path is printed to stdout.

Other commands take such a name instead of a path, and download what isn't there. A folder or file of that name here comes
first; so does a folder named as the owner, unless the name begins with 'hf.co/'.

Examples:
  $ sgemoe pull allenai/OLMoE-1B-7B-0924-Instruct
  $ sgemoe pull bartowski/OLMoE-1B-7B-0924-Instruct-GGUF:Q4_K_M
  $ sgemoe chat HuggingFaceTB/SmolLM2-135M-Instruct
`;

export function addPullCommand(program: Command, { io }: CliContext): void {
  const command = program
    .command('pull')
    .description("Download a model of Hugging Face's hub, as other commands do when they are given its name.")
    .argument('<name>', "the model: 'org/name', 'org/name@revision', 'org/name:file.gguf', 'org/name:Q4_K_M'")
    .optionsGroup('Options:');
  addHubOptions(command)
    .option('--tokenizer-only', 'download the files of the tokenizer only (default: the model)')
    .addHelpText('after', NOTES)
    .action(async (name: string, options: HubCliOptions & { tokenizerOnly?: boolean }) => {
      const { tokenizerOnly } = options;
      const path = await whileTold(options, io, (hub) => pullFrom(name, { ...hub, tokenizerOnly }, io.env));
      io.stdout.write(`${path}\n`);
    });
}
