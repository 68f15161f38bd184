import { resolveOptions } from '../base/options';
import { Lcg64 } from '../base/random';
import type { ModelConfig } from '../config/modelConfig';
import { UPCYCLE_OPTIONS, type UpcycleOptions } from '../config/upcycleOptions';
import type { Architecture } from '../hf/architectures';
import { modelPath } from '../hf/hub/modelPath';
import { chooseForExport } from '../hf/writeConfig';
import type { Parameter } from '../memory/parameters';
import { loadWhole, saveConverted } from './convert';
import { type LoadOptions, MoETransformer } from './model';

export type { UpcycleOptions } from '../config/upcycleOptions';

type Resolved = Required<{ [K in keyof UpcycleOptions]: Exclude<UpcycleOptions[K], undefined> }>;

/**
 * Makes a mixture of experts of a dense model (sparse upcycling, Komatsuzaki et al. 2023): a new model in which every
 * feed-forward has become nExperts experts, copies of it, behind a fresh router. All other weights are copied. Since the gate
 * weights of a token are renormalised, so that they sum to 1, equal experts give what the dense layer gave: without `noise`
 * and `reinit` the logits are the dense model's, up to the rounding of that sum. Only training makes the experts differ.
 * @param dense is not changed; its weights must be float32, as `load` makes them.
 * @throws TypeError or RangeError for an option; RangeError for a model that has experts; SgemoeError SGEMOE_MODEL_STORED,
 * SGEMOE_MEMORY.
 */
export function upcycle(dense: MoETransformer, options: UpcycleOptions = {}): MoETransformer {
  const resolved = resolveOptions<UpcycleOptions>('upcycle', UPCYCLE_OPTIONS, options) as Resolved;
  if (dense.lora) throw new TypeError('upcycle: the model has adapters; mergeLora adds them to its weights');
  const { kernels, generationConfig } = dense;
  const config = mixtureOf(dense.config, resolved);
  const model = MoETransformer.create(config, { seed: resolved.seed, kernels, generationConfig });
  for (const [name, { data }] of dense.namedParameters()) {
    if (!isOfMixture(name, config)) model.parameter(name).data.set(data);
  }
  const draws = new Lcg64(resolved.seed);
  for (let layer = 0; layer < config.nLayers; layer++) {
    if (!config.isDense(layer)) fillMixture(model, dense, layer, resolved, draws);
  }
  return model;
}

export interface UpcycleCheckpointOptions extends UpcycleOptions, Pick<LoadOptions, 'onNote' | 'hub'> {}

export interface Upcycled {
  /** The configuration of the mixture. */
  config: ModelConfig;
  /** The architecture that `exportHuggingFace` writes it as; null if none can express it. */
  architecture: Architecture | null;
  /** Why no architecture can, in a sentence; null if one can. */
  obstacle: string | null;
}

/**
 * Reads a dense checkpoint (a folder, a GGUF file, a model of the hub), makes a mixture of it as `upcycle` does, and writes that
 * in sgemoe's form, in float32, with the tokenizer's files. @throws as `upcycle`, MoETransformer.load and save.
 */
export async function upcycleCheckpoint(
  from: string,
  to: string,
  { onNote, hub, ...options }: UpcycleCheckpointOptions = {},
): Promise<Upcycled> {
  const path = await modelPath(from, hub);
  const model = upcycle(await loadWhole(path, { onNote }), options);
  await saveConverted(model, path, to, { purpose: 'an upcycling', onNote });
  return { config: model.config, ...formOf(model.config) };
}

function formOf(config: ModelConfig): Pick<Upcycled, 'architecture' | 'obstacle'> {
  try {
    return { architecture: chooseForExport(config), obstacle: null };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { architecture: null, obstacle: error.message };
  }
}

/** The configuration of the mixture. @throws RangeError for a model that has experts, or if no layer would get any. */
function mixtureOf(dense: ModelConfig, options: Resolved): ModelConfig {
  const { nExperts, topKExperts, sharedFfnDim, denseLayers } = options;
  if (dense.nMoeLayers > 0) {
    const layers = dense.nMoeLayers === dense.nLayers ? 'its layers have' : 'some of its layers have';
    throw new RangeError(`upcycle: the model must be dense, ${layers} experts already`);
  }
  if (topKExperts > nExperts)
    throw new RangeError(`upcycle: topKExperts must be at most nExperts (${nExperts}), got ${topKExperts}`);
  if (new Set(denseLayers).size >= dense.nLayers)
    throw new RangeError(`upcycle: denseLayers must leave a layer of ${dense.nLayers} to become a mixture`);
  return dense.with({
    nExperts,
    topKExperts,
    ffnDim: dense.denseFfnDim,
    sharedFfnDim,
    normTopkProb: true,
    denseLayers,
    denseFfnDim: denseLayers.length === 0 ? 0 : dense.denseFfnDim,
  });
}

const DENSE_MATRIX = /^model\.layers\.(\d+)\.mlp\./;

/** Whether a dense model's parameter is a feed-forward's that becomes experts. */
function isOfMixture(name: string, config: ModelConfig): boolean {
  const [, layer] = DENSE_MATRIX.exec(name) ?? [];
  return layer !== undefined && !config.isDense(Number(layer));
}

/** Fills a layer whose weights are still those of a new model: Kaiming normal. */
function fillMixture(
  model: MoETransformer,
  dense: MoETransformer,
  layer: number,
  { nExperts, noise, reinit, routerStd, sharedFfnDim }: Resolved,
  draws: Lcg64,
): void {
  const prefix = `model.layers.${layer}.`;
  const mixture = `${prefix}block_sparse_moe.`;
  const gate = model.parameter(`${mixture}gate.weight`);
  scale(gate.data, routerStd / initialStd(gate));
  if (sharedFfnDim > 0) model.parameter(`${mixture}shared_expert.w2.weight`).data.fill(0);
  const matrices = (['w1', 'w2', 'w3'] as const).map((name) => {
    const { data } = dense.parameter(`${prefix}mlp.${name}.weight`);
    return { name, data, rms: rootMeanSquare(data) };
  });
  for (let expert = 0; expert < nExperts; expert++) {
    const fresh = freshUnits(model.config.ffnDim, reinit, draws);
    for (const { name, data, rms } of matrices) {
      const parameter = model.parameter(`${mixture}experts.${expert}.${name}.weight`);
      if (noise === 0 && reinit === 0) parameter.data.set(data);
      else fillExpert(parameter, data, { rms, noise, fresh, unitsAreRows: name !== 'w2' });
    }
  }
}

interface ExpertFill {
  /** Root mean square of the dense matrix. */
  rms: number;
  noise: number;
  /** [F] 1 for a unit that starts anew. */
  fresh: Uint8Array;
  /** Whether a hidden unit is a row (gate, up) or a column (down). */
  unitsAreRows: boolean;
}

/** With n ~ N(0,1), of the new model's weights: rms n in fresh units, dense + noise rms n in the others. */
function fillExpert(expert: Parameter, dense: Float32Array, fill: ExpertFill): void {
  const { rms, noise, fresh, unitsAreRows } = fill;
  const [rows, cols] = expert.shape;
  const { data } = expert;
  const unit = rms / initialStd(expert);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const i = row * cols + col;
      const isFresh = fresh[unitsAreRows ? row : col] === 1;
      data[i] = isFresh ? unit * data[i] : dense[i] + noise * unit * data[i];
    }
  }
}

/** Marks round(share F) of F units, each set as likely as any other (a shuffle of Fisher and Yates that stops early). */
function freshUnits(ffnDim: number, share: number, draws: Lcg64): Uint8Array {
  const marks = new Uint8Array(ffnDim);
  const units = Uint32Array.from(marks, (_, unit) => unit);
  for (let i = 0; i < Math.round(share * ffnDim); i++) {
    const drawn = i + draws.nextInt(ffnDim - i);
    [units[i], units[drawn]] = [units[drawn], units[i]];
    marks[units[i]] = 1;
  }
  return marks;
}

/** The std of a new model's matrix [rows,cols]: sqrt(2/cols). */
function initialStd({ shape }: Parameter): number {
  return Math.sqrt(2 / shape[1]);
}

function rootMeanSquare(values: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i] * values[i];
  return Math.sqrt(squares / values.length);
}

function scale(values: Float32Array, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i] *= factor;
}
