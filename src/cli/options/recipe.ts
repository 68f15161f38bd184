import { totalmem } from 'node:os';
import { ModelConfig, type ModelConfigOptions } from '../../config/modelConfig';
import { MODEL_OPTIONS } from '../../config/modelOptions';
import { asUsage, UsageError } from '../terminal/usageError';
import { attributesOf, flagDefaults, flagsOf, fromFlags } from './tableOptions';

/** The options of the model that MODEL_OPTIONS lacks. */
export interface ModelCliOptions {
  preset?: 'tiny' | 'small';
  /** '0,2' or 'all', as the flag takes it. */
  denseLayers?: string;
}

/** The names of all model options on the command line. */
export const MODEL_FLAGS = ['preset', ...attributesOf(MODEL_OPTIONS)];

const MOST_WARMUP_STEPS = 100;

/** The default number of warmup steps: a tenth of the steps, at most 100. */
export function defaultWarmup(steps: number): number {
  return Math.min(MOST_WARMUP_STEPS, Math.floor(steps / 10));
}

/** The flag of each field of ModelConfig. maxSeqLen is the sequence length of the training. */
const FLAGS = flagsOf(MODEL_OPTIONS).set('maxSeqLen', '--seq-len');

/**
 * The configuration of the model; vocabSize comes from the tokenizer, maxSeqLen is the sequence length of the training.
 * @throws UsageError that names the flags, for sizes that don't fit together.
 */
export function modelConfig(options: ModelCliOptions, vocabSize: number, seqLen: number): ModelConfig {
  const sizes = options.preset === undefined ? flagDefaults(MODEL_OPTIONS) : sizesOf(options.preset);
  const given = fromFlags<ModelConfigOptions>(MODEL_OPTIONS, options);
  const fields = { ...sizes, ...given } as ModelConfigOptions;
  const headDim = fields.headDim ?? evenHeadDim(fields.hiddenDim, fields.nHeads);
  const dense = denseFields(options, fields, given);
  const config = asUsage(
    () => new ModelConfig({ ...fields, ...dense, headDim, vocabSize, maxSeqLen: seqLen }),
    inFlags,
  );
  checkMemory(config);
  return config;
}

/**
 * The fields that --dense-layers decides. `all` are all layers. The width is by default that of the experts which a token
 * passes in the other layers; where every layer is dense, no flag of experts has a default.
 */
function denseFields(
  { denseLayers }: ModelCliOptions,
  fields: ModelConfigOptions,
  given: Partial<ModelConfigOptions>,
): Partial<ModelConfigOptions> {
  if (denseLayers === undefined) return {};
  const { nLayers, topKExperts, ffnDim } = fields;
  const layers = denseLayers === 'all' ? Array.from({ length: nLayers }, (_, i) => i) : fields.denseLayers!;
  const denseFfnDim = given.denseFfnDim ?? topKExperts * ffnDim;
  if (layers.length < nLayers) return { denseLayers: layers, denseFfnDim };
  const { nExperts = 0, topKExperts: k = 0, ffnDim: width = 0 } = given;
  return { denseLayers: layers, denseFfnDim, nExperts, topKExperts: k, ffnDim: width };
}

/** Training keeps four float32 for each parameter: weight, gradient and AdamW's two moments. */
const BYTES_PER_PARAMETER = 16;

function checkMemory(config: ModelConfig): void {
  const needed = config.totalParams() * BYTES_PER_PARAMETER;
  if (needed <= totalmem()) return;
  const gigabytes = (bytes: number) => (bytes / 1e9).toLocaleString('en', { maximumSignificantDigits: 3 });
  throw new UsageError(
    `A model of ${config.totalParams().toLocaleString('en')} parameters needs ${gigabytes(needed)} GB to train, ` +
      `this machine has ${gigabytes(totalmem())} GB: make it smaller with --hidden-dim, --layers, --experts, --ffn-dim.`,
  );
}

/** The sizes of a preset without headDim, which follows from hiddenDim and nHeads if one of these is given. */
function sizesOf(preset: 'tiny' | 'small'): Partial<ModelConfigOptions> {
  const { hiddenDim, nLayers, nHeads, nKvHeads, nExperts, topKExperts, ffnDim } = ModelConfig[preset]();
  return { hiddenDim, nLayers, nHeads, nKvHeads, nExperts, topKExperts, ffnDim };
}

function evenHeadDim(hiddenDim: number, heads: number): number {
  const headDim = hiddenDim / heads;
  if (Number.isInteger(headDim) && headDim % 2 === 0) return headDim;
  throw new UsageError(
    `--hidden-dim (${hiddenDim}) divided by --heads (${heads}) must be an even integer; give --head-dim for another.`,
  );
}

function inFlags(message: string): string {
  return message.replace(/^ModelConfig: /, '').replaceAll(/\w+/g, (word) => FLAGS.get(word) ?? word);
}
