/** What generation_config.json holds; of its keys sgemoe reads `eos_token_id` and keeps the others. */
export type GenerationConfig = Readonly<Record<string, unknown>>;

export const GENERATION_FILE = 'generation_config.json';
