/** Joins schemas that must hold together (`allOf`, or keywords beside `$ref` and `anyOf`) into one. */

export type Schema = Readonly<Record<string, unknown>>;

/** Keywords that say nothing about which values are valid. */
export const ANNOTATIONS: ReadonlySet<string> = new Set([
  '$schema',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
]);

type Join = (a: never, b: never, join: (a: unknown, b: unknown) => unknown) => unknown;

const larger = (a: number, b: number) => Math.max(a, b);
const smaller = (a: number, b: number) => Math.min(a, b);
const same = (value: unknown) => JSON.stringify(value);

/** How two values of a keyword become one; undefined where they can't. */
const JOINS: Readonly<Record<string, Join>> = {
  minimum: larger,
  exclusiveMinimum: larger,
  minLength: larger,
  minItems: larger,
  minProperties: larger,
  maximum: smaller,
  exclusiveMaximum: smaller,
  maxLength: smaller,
  maxItems: smaller,
  maxProperties: smaller,
  required: (a: string[], b: string[]) => [...new Set([...a, ...b])],
  type: joinTypes,
  enum: (a: unknown[], b: unknown[]) => {
    const known = new Set(b.map(same));
    return a.filter((each) => known.has(same(each)));
  },
  items: (a: unknown, b: unknown, join) => join(a, b),
  properties: (a: Schema, b: Schema, join) => {
    const joined = new Map(Object.entries(a));
    for (const [name, schema] of Object.entries(b)) {
      joined.set(name, joined.has(name) ? join(joined.get(name), schema) : schema);
    }
    return Object.fromEntries(joined);
  },
};

/** @param refuse throws for a keyword that can't be joined. */
export function mergeSchemas(a: unknown, b: unknown, refuse: (keyword: string) => never): unknown {
  if (a === false || b === false) return false;
  if (a === true) return b;
  if (b === true) return a;
  const [one, other] = [a as Schema, b as Schema];
  checkClosed(one, other, refuse);
  checkClosed(other, one, refuse);
  checkItems(one, other, refuse);
  checkItems(other, one, refuse);
  const merged = new Map(Object.entries(one));
  for (const [keyword, value] of Object.entries(other)) {
    const before = merged.get(keyword);
    if (before === undefined || ANNOTATIONS.has(keyword)) merged.set(keyword, before ?? value);
    else if (same(before) !== same(value)) {
      const join = JOINS[keyword] ?? refuse(keyword);
      const joined = join(before as never, value as never, (x, y) => mergeSchemas(x, y, refuse));
      merged.set(keyword, joined === undefined ? refuse(keyword) : joined);
    }
  }
  return Object.fromEntries(merged);
}

/** A schema that closes or constrains other members can't be joined with one that names more. */
function checkClosed(one: Schema, other: Schema, refuse: (keyword: string) => never): void {
  const { additionalProperties: additional } = one;
  if (additional === undefined || additional === true) return;
  const own = (one.properties ?? {}) as Schema;
  const names = Object.keys((other.properties ?? {}) as Schema);
  if (names.some((name) => !Object.hasOwn(own, name))) refuse('additionalProperties');
}

/** Items that one schema lists would escape the `items` of another, which speaks of all. */
function checkItems(one: Schema, other: Schema, refuse: (keyword: string) => never): void {
  const speaksOfAll = other.items !== undefined && other.items !== true && other.prefixItems === undefined;
  if (one.prefixItems !== undefined && speaksOfAll) refuse('items');
}

function joinTypes(a: string | string[], b: string | string[]): string[] {
  const [ours, theirs] = [[a].flat(), [b].flat()];
  const has = (types: string[], type: string) =>
    types.includes(type) || (type === 'integer' && types.includes('number'));
  return [...new Set([...ours, ...theirs])].filter((type) => has(ours, type) && has(theirs, type));
}
