/** Parts of a tokenizer.json, for what writes a GGUF of it. */
export type Json = Readonly<Record<string, unknown>>;

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  readonly single_word?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly normalized?: boolean;
}

/** The stages of a part in their order: those of a Sequence, which has them under `key`, a single one, or none. */
export function stagesOf(part: unknown, key: string): Json[] {
  const stage = (part ?? null) as Json | null;
  if (stage === null) return [];
  return stage.type === 'Sequence' ? (stage[key] as Json[]).flatMap((one) => stagesOf(one, key)) : [stage];
}

/** The merges of a BPE, each as its two tokens; old files have them as a text. */
export function mergePairs(json: Json): (readonly string[])[] {
  const { merges } = json.model as { merges: (string | [string, string])[] };
  return merges.map((merge) => (typeof merge === 'string' ? merge.split(' ') : merge));
}

export function noForm(why: string): RangeError {
  return new RangeError(`export: this tokenizer has no form in a GGUF: ${why}`);
}
