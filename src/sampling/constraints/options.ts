/** A JSON Schema, or true for any JSON value. */
export type JsonSchema = Readonly<Record<string, unknown>> | boolean;

/** The options of sampling that are constraints, at most one of them. */
export interface ConstraintOptions {
  grammar?: string | undefined;
  jsonSchema?: JsonSchema | undefined;
  regex?: string | undefined;
  choice?: readonly string[] | undefined;
}

/** A constraint as plain data: `text` is the grammar or pattern, or JSON of the schema, the texts or PrescribedCalls. */
export interface ConstraintSource {
  readonly kind: keyof ConstraintOptions | 'calls';
  readonly text: string;
}

export const CONSTRAINTS = ['grammar', 'jsonSchema', 'regex', 'choice'] as const;

/** Whether options have a constraint. */
export function isConstrained(options: ConstraintOptions): boolean {
  return CONSTRAINTS.some((name) => options[name] !== undefined);
}

/** The constraint that options ask for; null for none. @throws RangeError for more than one. */
export function constraintOf(options: ConstraintOptions): ConstraintSource | null {
  const { grammar, jsonSchema, regex, choice } = options;
  const given: ConstraintSource[] = [];
  if (grammar !== undefined) given.push({ kind: 'grammar', text: grammar });
  if (jsonSchema !== undefined) given.push({ kind: 'jsonSchema', text: JSON.stringify(jsonSchema) });
  if (regex !== undefined) given.push({ kind: 'regex', text: regex });
  if (choice !== undefined) given.push({ kind: 'choice', text: JSON.stringify(choice) });
  if (given.length <= 1) return given[0] ?? null;
  const names = given.map(({ kind }) => kind).join(' and ');
  throw new RangeError(`sampling: at most one constraint must be given, got ${names}`);
}

/** A schema as plain data, so that it can be handed to another thread. */
export function plainSchema(schema: JsonSchema | undefined): JsonSchema | undefined {
  return schema === undefined ? undefined : (JSON.parse(JSON.stringify(schema)) as JsonSchema);
}
