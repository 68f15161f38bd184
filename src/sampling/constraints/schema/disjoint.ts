import type { Schema } from './merge';

/** Tags within tags that are looked at: schemas may refer to themselves. */
const MOST_TAGS = 8;
const TYPES = ['object', 'array', 'string', 'number', 'boolean', 'null'];

/** Whether no value is valid by both schemas, as far as their types, constants and constant members tell. */
export function areDisjoint(
  a: unknown,
  b: unknown,
  resolve: (schema: unknown) => unknown,
  depth = 0,
): boolean {
  const [one, other] = [resolve(a), resolve(b)];
  if (one === false || other === false) return true;
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false;
  const [first, second] = [one as Schema, other as Schema];
  if (!typesOf(first).some((type) => typesOf(second).includes(type))) return true;
  const [left, right] = [constantsOf(first), constantsOf(second)];
  if (left !== null && right !== null) return !left.some((value) => right.includes(value));
  return depth < MOST_TAGS && haveDisjointMembers(first, second, resolve, depth);
}

/** Whether a member that both require can't be the same in both: a tag. */
function haveDisjointMembers(
  a: Schema,
  b: Schema,
  resolve: (schema: unknown) => unknown,
  depth: number,
): boolean {
  if (typesOf(a).join() !== 'object' || typesOf(b).join() !== 'object') return false;
  const [left, right] = [(a.properties ?? {}) as Schema, (b.properties ?? {}) as Schema];
  const required = (b.required ?? []) as string[];
  return ((a.required ?? []) as string[]).some((name) => {
    if (!required.includes(name) || !Object.hasOwn(left, name) || !Object.hasOwn(right, name)) return false;
    return areDisjoint(left[name], right[name], resolve, depth + 1);
  });
}

function typesOf(schema: Schema): string[] {
  const constants = constantsOf(schema);
  if (constants !== null) return [...new Set(constants.map((each) => typeOf(JSON.parse(each))))];
  if (schema.type === undefined) return TYPES;
  return [schema.type as string | string[]].flat().map((type) => (type === 'integer' ? 'number' : type));
}

/** JSON of the values that `const` or `enum` allow; null where neither is there, or one is an object or array. */
function constantsOf(schema: Schema): string[] | null {
  const values = schema.const !== undefined ? [schema.const] : schema.enum;
  if (!Array.isArray(values) || values.some((each) => typeof each === 'object' && each !== null)) return null;
  return values.map((each) => JSON.stringify(each));
}

/** The JSON type of a value. */
export function typeOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}
