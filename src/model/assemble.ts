import type { Kernels } from '../backend/kernels';
import type { ModelConfig } from '../config/modelConfig';
import { type Parameter, ParameterStore } from '../memory/parameters';
import { RopeTable } from './attention';
import { type BlockDims, TransformerBlock } from './block';
import { Embedding } from './embedding';
import { type ExpertDivision, type ExpertLayout, rangeOfExperts } from './expertLayout';
import { Linear, RMSNorm } from './layers';
import type { Lora } from './lora';
import type { RouterLosses } from './moe';
import type { ModelParts } from './parts';

/** A model's layers and the places of their weights. */
export interface AssembledParts extends ModelParts {
  readonly store: ParameterStore;
  /** The losses whose gradients the routers add while a whole model's backward runs. */
  readonly routerLosses: RouterLosses;
  readonly owned: OwnedWeights;
  /** The adapters in use; null without. */
  lora: Lora | null;
}

/** The weights that a training of these parts changes: the adapters', or the model's own. */
export function trainedStore({ lora, store }: Pick<AssembledParts, 'lora' | 'store'>): ParameterStore {
  return lora?.store ?? store;
}

/** The weights of each owner: [first, end), counted in the order in which the store got them. */
export interface OwnedWeights {
  readonly embedding: readonly [first: number, end: number];
  readonly blocks: readonly (readonly [first: number, end: number])[];
  /** The final norm and lm_head. */
  readonly head: readonly [first: number, end: number];
}

/** Makes the layers use these adapters instead of those before; null for none. */
export function useLora(parts: AssembledParts, lora: Lora | null): void {
  parts.lora?.detach();
  lora?.attach();
  parts.lora = lora;
  parts.store.choose(() => lora === null);
}

/**
 * Makes the layers of a model. Their weights are reserved in `store` in the order of checkpoints; nothing is allocated.
 * @param exchange divides the experts over ranks: `store` gets those of this rank.
 */
export function assemble(
  config: ModelConfig,
  store: ParameterStore,
  exchange: ExpertDivision | null = null,
): AssembledParts {
  const routerLosses: RouterLosses = { auxLossAlpha: 0, zLossCoef: 0, weight: 1 };
  const {
    hiddenDim: H,
    vocabSize: V,
    headDim,
    effectiveRopeBase,
    ropeScaling,
    rmsNormEps: eps,
    tieEmbeddings: tied,
  } = config;
  const rope = new RopeTable(headDim, effectiveRopeBase, store.kernels.memory, ropeScaling);
  const multiplier = config.embeddingMultiplier;
  const embedding = new Embedding(V, H, { store, prefix: 'model.embed_tokens.', multiplier, tied });
  const embeddingEnd = store.weightCount;
  const blockEnds: number[] = [];
  const blocks = Array.from({ length: config.nLayers }, (_, i) => {
    const prefix = layerPrefix(i);
    const options = { store, prefix, rope, losses: routerLosses, exchange };
    const block = new TransformerBlock(dimsOf(config, i), options);
    blockEnds.push(store.weightCount);
    return block;
  });
  const norm = new RMSNorm(H, { store, prefix: 'model.norm.', eps });
  const tiedTo = tied ? embedding : undefined;
  const lmHead = new Linear(H, V, { store, prefix: 'lm_head.', scale: 1 / config.logitsDivisor, tiedTo });
  const starts = [embeddingEnd, ...blockEnds];
  const owned: OwnedWeights = {
    embedding: [0, embeddingEnd],
    blocks: blockEnds.map((end, i) => [starts[i], end] as const),
    head: [starts[starts.length - 1], store.weightCount],
  };
  return { config, store, embedding, blocks, norm, lmHead, routerLosses, owned, lora: null };
}

/** The parameters of a whole model, without memory. */
export function undividedStore(config: ModelConfig, kernels: Kernels): ParameterStore {
  const store = new ParameterStore(kernels);
  assemble(config, store);
  return store;
}

/** The names of a model's parameters, those that only other ranks have included. */
export function parameterNames({ config, store }: Pick<AssembledParts, 'config' | 'store'>): string[] {
  const { parameters } = store.isPart ? undividedStore(config, store.kernels) : store;
  return parameters.map(({ name }) => name);
}

/** A parameter of a whole model, where the ranks have it. */
export interface PlacedParameter {
  readonly parameter: Parameter;
  /** This rank's store, or one without memory that has the places of the rank that has it. */
  readonly store: ParameterStore;
  /** The place in its group of a rank that has it; of what all ranks have, this rank's. */
  readonly position: number;
}

/** The parameters of a store that has all of them. */
export function placedIn(store: ParameterStore): PlacedParameter[] {
  return store.parameters.map((parameter) => ({ parameter, store, position: 0 }));
}

/**
 * The parameters of a model whose experts are divided as `layout` tells, in the order of the whole model.
 * @param store this rank's.
 */
export function placedParameters(
  config: ModelConfig,
  store: ParameterStore,
  layout: ExpertLayout,
): PlacedParameter[] {
  const found = new Map<string, PlacedParameter>();
  for (let position = 0; position < layout.groupSize; position++) {
    const isOwn = position === layout.position;
    const placed = storeAt(config, store, layout, position);
    for (const parameter of placed.parameters) {
      if (isOwn || !found.has(parameter.name))
        found.set(parameter.name, { parameter, store: placed, position });
    }
  }
  return undividedStore(config, store.kernels).parameters.map(({ name }) => found.get(name)!);
}

/** The store of the rank at a place of a group, which trains what `store`, this rank's, does; without memory for another. */
export function storeAt(
  config: ModelConfig,
  store: ParameterStore,
  layout: ExpertLayout,
  position: number,
): ParameterStore {
  if (position === layout.position) return store;
  const placed = new ParameterStore(store.kernels);
  assemble(config, placed, rangeOfExperts(layout.rangeOf(position)));
  placed.choose(store.isChosen);
  return placed;
}

/** Prefix of the names of a block's parameters. */
export function layerPrefix(layer: number): string {
  return `model.layers.${layer}.`;
}

/** The sizes of a layer: those of its feed-forward depend on whether it is dense. */
function dimsOf(config: ModelConfig, layer: number): BlockDims {
  return config.isDense(layer) ? config : { ...config, denseFfnDim: 0 };
}
