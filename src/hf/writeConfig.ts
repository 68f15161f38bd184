import type { ModelConfig } from '../config/modelConfig';
import { ropeScalingToJson } from '../config/ropeScaling';
import { type Expresses, PLAIN } from './architecture';
import { ARCHITECTURES, type Architecture, classNameOf, definitionOf } from './architectures';
import { endTokenValue } from './endTokens';

/** The fields that prevent writing a model as this architecture; empty if it can be written. */
export function obstacles(config: ModelConfig, architecture: Architecture): string[] {
  const { qkNorm, expresses } = definitionOf(architecture);
  const fields = config.qkNorm === qkNorm ? [] : [`qkNorm ${config.qkNorm}`];
  for (const [field, test] of Object.entries({ ...PLAIN, ...expresses })) {
    const value = config[field as keyof Expresses];
    if (!test(value, config)) fields.push(`${field} ${String(value) || 'none'}`);
  }
  return fields;
}

/**
 * The architecture to write a model as: the requested one, or the first that can express the model.
 * @throws RangeError that names the fields in the way.
 */
export function chooseForExport(config: ModelConfig, asked?: Architecture): Architecture {
  if (asked !== undefined && !ARCHITECTURES.includes(asked)) {
    throw new RangeError(
      `export: architecture must be one of ${ARCHITECTURES.join(', ')}, got ${String(asked)}`,
    );
  }
  const candidates = asked === undefined ? ARCHITECTURES : [asked];
  const found = candidates.find((architecture) => obstacles(config, architecture).length === 0);
  if (found !== undefined) return found;
  const reasons = candidates.map((name) => `${classNameOf(name)} (${obstacles(config, name).join(', ')})`);
  throw new RangeError(`export: this model can't be written as ${reasons.join(' nor as ')}`);
}

/** Ids of special tokens; null for a missing one. */
export interface SpecialTokens {
  bos: number | null;
  /** All tokens that end a text. */
  ends: readonly number[];
  pad: number | null;
}

/**
 * config.json in the form of `transformers` 4, which version 5 reads too. It has every key whose default there would
 * describe a different model. An NTK-scaled rotary base is written as the resulting base.
 */
export function writeHuggingFaceConfig(
  config: ModelConfig,
  architecture: Architecture,
  dtype: string,
  special: SpecialTokens,
): Record<string, unknown> {
  return {
    architectures: [classNameOf(architecture)],
    model_type: architecture,
    torch_dtype: dtype,
    hidden_act: 'silu',
    hidden_size: config.hiddenDim,
    num_hidden_layers: config.nLayers,
    num_attention_heads: config.nHeads,
    num_key_value_heads: config.nKvHeads,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.maxSeqLen,
    rope_theta: config.effectiveRopeBase,
    rope_scaling: ropeScalingToJson(config.ropeScaling),
    rms_norm_eps: config.rmsNormEps,
    tie_word_embeddings: config.tieEmbeddings,
    bos_token_id: special.bos,
    eos_token_id: endTokenValue(special.ends),
    pad_token_id: special.pad,
    ...definitionOf(architecture).writeOwn(config),
  };
}
