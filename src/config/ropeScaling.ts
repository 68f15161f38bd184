/** How rotary frequencies are stretched, so that a model reads longer texts than it was first trained on. */
import {
  boolean,
  choice,
  integer,
  number,
  type OptionRow,
  type OptionTable,
  resolveOptions,
} from '../base/options';

/** f_i' = f_i / factor: positions are interpolated (Chen et al. 2023). */
export interface LinearRopeScaling {
  readonly type: 'linear';
  /** >= 1. */
  readonly factor: number;
}

/**
 * As Llama 3.1: with the wavelength w_i = 2 pi / f_i, f_i' = f_i where w_i < originalMaxSeqLen / highFreqFactor, f_i / factor
 * where w_i > originalMaxSeqLen / lowFreqFactor, and (1 - s) f_i / factor + s f_i between, with
 * s = (originalMaxSeqLen / w_i - lowFreqFactor) / (highFreqFactor - lowFreqFactor).
 */
export interface Llama3RopeScaling {
  readonly type: 'llama3';
  /** >= 1. */
  readonly factor: number;
  /** > 0. */
  readonly lowFreqFactor: number;
  /** > lowFreqFactor. */
  readonly highFreqFactor: number;
  /** Longest sequence of the training before, in tokens. */
  readonly originalMaxSeqLen: number;
}

/**
 * YaRN (Peng et al. 2023): f_i' = (1 - g_i) f_i / factor + g_i f_i, where g_i falls from 1 to 0 between the dimensions that
 * turn betaFast and betaSlow times in originalMaxSeqLen tokens. Cosines and sines are multiplied by attentionFactor.
 */
export interface YarnRopeScaling {
  readonly type: 'yarn';
  /** >= 1. */
  readonly factor: number;
  /** Longest sequence of the training before, in tokens. */
  readonly originalMaxSeqLen: number;
  /** > 0. Default 0.1 ln(factor) + 1. */
  readonly attentionFactor?: number | undefined;
  /** > betaSlow. Default 32. */
  readonly betaFast?: number | undefined;
  /** > 0. Default 1. */
  readonly betaSlow?: number | undefined;
  /** Whether the two dimensions are rounded outwards. Default true. */
  readonly truncate?: boolean | undefined;
}

export type RopeScaling = LinearRopeScaling | Llama3RopeScaling | YarnRopeScaling;

type Table<T> = OptionTable<T> & { readonly [K in keyof T]-?: { readonly json: string } };
const row = <T>(json: string, option: OptionRow<T>) => ({ ...option, json });

const factor = row('factor', number({ min: 1 }, { doc: 'how much longer texts become' }));
const originalMaxSeqLen = row(
  'original_max_position_embeddings',
  integer({ min: 1, below: 2 ** 31 }, { doc: 'longest sequence of the training before' }),
);
const positive = (json: string, doc: string, preset?: number) =>
  row(json, number({ above: 0 }, { doc, default: preset }));
const typeOf = <T extends string>(type: T) =>
  row('rope_type', choice([type], { doc: 'the kind of scaling' }));

const LINEAR: Table<LinearRopeScaling> = { type: typeOf('linear'), factor };
const LLAMA3: Table<Llama3RopeScaling> = {
  type: typeOf('llama3'),
  factor,
  lowFreqFactor: positive(
    'low_freq_factor',
    'turns in the original length below which frequencies are divided',
  ),
  highFreqFactor: positive('high_freq_factor', 'turns in the original length above which they stay'),
  originalMaxSeqLen,
};
const YARN: Table<YarnRopeScaling> = {
  type: typeOf('yarn'),
  factor,
  originalMaxSeqLen,
  attentionFactor: row(
    'attention_factor',
    number({ above: 0 }, { doc: 'factor of cosines and sines', absent: '0.1 ln(factor) + 1' }),
  ),
  betaFast: positive('beta_fast', 'turns in the original length above which frequencies stay', 32),
  betaSlow: positive('beta_slow', 'turns in the original length below which they are divided', 1),
  truncate: row('truncate', boolean({ doc: 'the two dimensions are rounded outwards', default: true })),
};
const TABLES = { linear: LINEAR, llama3: LLAMA3, yarn: YARN } as const;

export const ROPE_SCALINGS = Object.keys(TABLES) as readonly RopeScaling['type'][];

export function isRopeScalingType(type: unknown): type is RopeScaling['type'] {
  return ROPE_SCALINGS.some((known) => known === type);
}

/**
 * A scaling with its defaults in place, frozen. @throws TypeError or RangeError, for ModelConfig.
 */
export function resolveRopeScaling(scaling: RopeScaling): RopeScaling {
  const { type } = scaling;
  if (!isRopeScalingType(type)) {
    throw new RangeError(
      `ModelConfig: ropeScaling.type must be ${ROPE_SCALINGS.join(', ')}, got ${String(type)}`,
    );
  }
  const where = 'ModelConfig: ropeScaling';
  const resolved = resolveOptions<RopeScaling>(where, TABLES[type] as OptionTable<RopeScaling>, scaling);
  return Object.freeze(checked(resolved, where));
}

function checked(scaling: RopeScaling, where: string): RopeScaling {
  if (scaling.type === 'llama3' && scaling.highFreqFactor <= scaling.lowFreqFactor) {
    throw new RangeError(`${where}: highFreqFactor must be > lowFreqFactor (${scaling.lowFreqFactor})`);
  }
  if (scaling.type !== 'yarn') return scaling;
  if (scaling.betaFast! <= scaling.betaSlow!)
    throw new RangeError(`${where}: betaFast must be > betaSlow (${scaling.betaSlow})`);
  return { ...scaling, attentionFactor: scaling.attentionFactor ?? yarnAttentionFactor(scaling.factor) };
}

/** YaRN's factor of cosines and sines: 0.1 mscale ln(factor) + 1 (Peng et al. 2023, eq. 22). */
export function yarnAttentionFactor(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/** The names of a scaling's fields with their keys in config.json, which are those of `transformers` too. */
function keysOf(type: RopeScaling['type']): [name: string, key: string][] {
  return Object.entries(TABLES[type]).map(([name, { json }]) => [name, json]);
}

/** A scaling under the keys of config.json; null for none. */
export function ropeScalingToJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling === null) return null;
  return Object.fromEntries(
    keysOf(scaling.type).map(([name, key]) => [key, scaling[name as keyof RopeScaling]]),
  );
}

/**
 * The scaling that an object of config.json holds; keys that its type doesn't have keep their names. Nothing is checked:
 * `resolveRopeScaling` does that.
 */
export function ropeScalingFromJson(json: Readonly<Record<string, unknown>>): RopeScaling {
  const { rope_type: type } = json;
  const names = new Map(isRopeScalingType(type) ? keysOf(type).map(([name, key]) => [key, name]) : []);
  const entries = Object.entries(json).map(([key, value]) => [names.get(key) ?? key, value]);
  return Object.fromEntries([...entries, ['type', type]]) as RopeScaling;
}
