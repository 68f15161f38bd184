import { SAMPLING_OPTIONS, type SamplingOptions } from './options';

/** The keys of generation_config.json that are sampling options here. */
const KEYS = {
  temperature: 'temperature',
  top_k: 'topK',
  top_p: 'topP',
  min_p: 'minP',
  repetition_penalty: 'repetitionPenalty',
} as const;

/** The options that a checkpoint may choose. */
export const CHECKPOINT_OPTIONS = Object.values(KEYS);

/**
 * The sampling options that a checkpoint's authors chose, from the content of its generation_config.json; none for null.
 * `do_sample: false` is temperature 0. A value that is out of range, such as a top_k of 0 for all, counts as absent.
 */
export function checkpointSampling(
  generationConfig: Readonly<Record<string, unknown>> | null,
): SamplingOptions {
  const options: SamplingOptions = {};
  for (const [key, option] of Object.entries(KEYS)) {
    const value = generationConfig?.[key];
    const { isType, holds } = SAMPLING_OPTIONS[option];
    if (isType(value) && holds(value as number)) options[option] = value as number;
  }
  if (generationConfig?.do_sample === false) options.temperature = 0;
  return options;
}
