import { ModelConfig, type ModelConfigOptions } from '../config/modelConfig';
import type { KeyDefaults } from './architecture';
import { ARCHITECTURES, type Architecture, classNameOf, definitionOf } from './architectures';
import { ConfigValues, refused } from './configValues';
import { ignoredKeys, refuseUnsupported } from './refusals';
import { readRope } from './rope';

export interface HuggingFaceConfig {
  architecture: Architecture;
  config: ModelConfig;
  /** A sentence for each kind of ignored keys: unknown ones, and those that change only training. */
  notes: readonly string[];
}

/** Whether a config.json comes from `transformers` (of any architecture) rather than from sgemoe. */
export function isHuggingFaceConfig(json: Readonly<Record<string, unknown>>): boolean {
  return json.architectures !== undefined || (json.model_type !== undefined && json.model_type !== 'sgemoe');
}

/**
 * The model that a config.json of `transformers` (version 4 or 5) describes. Whatever sgemoe doesn't compute is refused,
 * never ignored; unknown keys are listed in `notes`.
 * @throws SgemoeError SGEMOE_CONFIG_INVALID
 */
export function readHuggingFaceConfig(json: Readonly<Record<string, unknown>>): HuggingFaceConfig {
  const values = new ConfigValues(json);
  const architecture = chooseArchitecture(values);
  refuseUnsupported(values, architecture);
  const { defaults, qkNorm, readOwn } = definitionOf(architecture);
  const options = {
    ...readScalars(values, defaults),
    qkNorm,
    ...readOwn(values),
    ...readSizes(values, architecture),
  };
  let config: ModelConfig;
  try {
    config = new ModelConfig(options);
  } catch (cause) {
    throw refused((cause as Error).message);
  }
  return { architecture, config, notes: ignoredKeys(values) };
}

function chooseArchitecture(values: ConfigValues): Architecture {
  const classes = values.get('architectures');
  const type = values.get('model_type');
  const name = Array.isArray(classes) ? classes[0] : undefined;
  const byClass = ARCHITECTURES.find((architecture) => classNameOf(architecture) === name);
  if (name !== undefined && byClass === undefined) {
    const known = ARCHITECTURES.map(classNameOf).join(', ');
    throw refused(`architecture ${JSON.stringify(name)} is not supported; supported are ${known}`);
  }
  const byType = ARCHITECTURES.find((architecture) => architecture === type);
  if (type !== undefined && byType === undefined) {
    throw refused(
      `model_type ${JSON.stringify(type)} is not supported; supported are ${ARCHITECTURES.join(', ')}`,
    );
  }
  if (byClass && byType && byClass !== byType) {
    throw refused(`architectures says ${classNameOf(byClass)}, model_type says ${byType}`);
  }
  const chosen = byClass ?? byType;
  if (chosen === undefined) throw refused('neither architectures nor model_type names a model');
  return chosen;
}

/** A bound on layers, checked before a list of them is made. */
const MAX_LAYERS = 2 ** 16;

function checkLayerCount(nLayers: number): number {
  if (Number.isSafeInteger(nLayers) && nLayers >= 1 && nLayers <= MAX_LAYERS) return nLayers;
  throw refused(`num_hidden_layers must be an integer in [1, ${MAX_LAYERS}], got ${nLayers}`);
}

function readSizes(values: ConfigValues, architecture: Architecture) {
  const hiddenDim = values.number('hidden_size');
  const nHeads = values.number('num_attention_heads');
  const { defaults, readFeedForwards } = definitionOf(architecture);
  const nLayers = values.number('num_hidden_layers');
  return {
    hiddenDim,
    nHeads,
    nLayers,
    nKvHeads: readKvHeads(values, defaults, nHeads),
    headDim: readHeadDim(values, architecture, hiddenDim / nHeads),
    ...readFeedForwards(values, checkLayerCount(nLayers)),
    vocabSize: values.number('vocab_size'),
    maxSeqLen: values.number('max_position_embeddings'),
  };
}

/** Key and value heads. null means as many as query heads; the default of a missing key depends on the architecture. */
function readKvHeads(values: ConfigValues, defaults: KeyDefaults, nHeads: number): number {
  const missing = values.has('num_key_value_heads') ? null : defaults.nKvHeads;
  return values.number('num_key_value_heads', missing ?? nHeads);
}

function readHeadDim(values: ConfigValues, architecture: Architecture, even: number): number {
  const { defaults, expresses } = definitionOf(architecture);
  const headDim = values.number('head_dim', defaults.headDim ?? even);
  if (headDim === even || expresses.headDim) return headDim;
  throw refused(
    `head_dim ${headDim} must be hidden_size / num_attention_heads = ${even} for ${architecture}`,
  );
}

function readScalars(values: ConfigValues, defaults: KeyDefaults): Partial<ModelConfigOptions> {
  return {
    ...readRope(values, defaults.ropeBase),
    rmsNormEps: values.number('rms_norm_eps', defaults.rmsNormEps),
    routerAuxLossCoef: values.number('router_aux_loss_coef', defaults.routerAuxLossCoef),
    tieEmbeddings: values.boolean('tie_word_embeddings', false),
  };
}
