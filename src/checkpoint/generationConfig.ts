/** The content of generation_config.json; sgemoe reads `eos_token_id` and how to sample, and keeps the other keys. */
export type GenerationConfig = Readonly<Record<string, unknown>>;

export const GENERATION_FILE = 'generation_config.json';
