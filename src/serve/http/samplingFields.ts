import { namesOf } from '../../base/options';
import { SAMPLING_OPTIONS, type SamplingOptions } from '../../sampling/options';
import { COMMON_FIELDS, type FieldRow } from './requestFields';

/** Sampling options in the fields of a request, or the first of them that a request has no field for. */
export type SamplingFields = { fields: Record<string, unknown> } | { unknown: string };

// biome-ignore lint/suspicious/noExplicitAny: rows of any type.
const ROWS = Object.entries<FieldRow<any>>(COMMON_FIELDS);

/** The inverse of reading a request: options -> fields. */
export function fieldsOfSampling(options: SamplingOptions): SamplingFields {
  const fields: Record<string, unknown> = {};
  for (const option of namesOf<SamplingOptions>(SAMPLING_OPTIONS)) {
    const value = options[option];
    if (value === undefined) continue;
    const [name] = ROWS.find(([, row]) => row.option === option) ?? [];
    if (name === undefined) return { unknown: option };
    fields[name] = value instanceof Map ? Object.fromEntries(value) : value;
  }
  return { fields };
}
