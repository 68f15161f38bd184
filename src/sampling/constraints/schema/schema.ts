import { type Expression, type Expressions, invalid, type Rule, tooLarge } from '../expressions';
import { readSearch } from '../regex';
import { areDisjoint, typeOf } from './disjoint';
import { FORMATS } from './formats';
import { JsonTexts } from './json';
import { KEYWORDS, type KeywordRow } from './keywords';
import { ANNOTATIONS, mergeSchemas, type Schema } from './merge';
import { type Bound, INTEGER_LIMIT } from './numbers';

const MOST_DEPTH = 100;
/** Schemas that are read, with those that joins make. */
const MOST_READS = 20_000;
/** Characters of the JSON of all joins, which are kept. */
const MOST_JOINED = 2 ** 24;
const MOST_DIVISOR = 100;
const NO_LIMIT = Number.POSITIVE_INFINITY;
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'];

/**
 * Reads a JSON Schema (draft 2020-12) into the JSON texts that validate, or the part of them that models need: members in the
 * order of `properties`, few blanks, numbers of bounded length, and no members beyond `properties` unless
 * `additionalProperties` asks for them.
 * @throws SgemoeError SGEMOE_CONSTRAINT_INVALID that names the keyword and its place, for what isn't supported.
 */
export function readSchema(schema: unknown, make: Expressions): Expression {
  return new SchemaReader(schema, make).read(schema, '#');
}

class SchemaReader {
  readonly #json: JsonTexts;
  readonly #byPointer = new Map<string, Rule>();
  /** Joined schemas by their JSON, so that recursion through them ends. */
  readonly #joined = new Map<string, Rule>();
  #depth = 0;
  #reads = 0;
  #joinedLength = 0;

  constructor(
    private readonly whole: unknown,
    private readonly make: Expressions,
  ) {
    this.#json = new JsonTexts(make);
  }

  read(schema: unknown, path: string): Expression {
    if (++this.#reads > MOST_READS) throw tooLarge(`its schemas and their joins are more than ${MOST_READS}`);
    if (++this.#depth > MOST_DEPTH) throw tooLarge(`its schemas are nested more than ${MOST_DEPTH} deep`);
    const expression = this.#read(schema, path);
    this.#depth--;
    return expression;
  }

  #read(schema: unknown, path: string): Expression {
    if (schema === true) return this.#json.value;
    if (schema === false) return this.make.never;
    this.#check(schema, path);
    const { $ref, allOf, anyOf, oneOf, ...rest } = schema as Schema;
    if ($ref !== undefined) return this.#reference(schema as Schema, path);
    if (allOf !== undefined) {
      return this.#readJoined(
        [{ ...rest, ...given({ anyOf, oneOf }) }, ...(allOf as unknown[])],
        `${path}/allOf`,
      );
    }
    if (anyOf !== undefined)
      return this.#alternatives(anyOf as unknown[], { ...rest, ...given({ oneOf }) }, `${path}/anyOf`);
    if (oneOf !== undefined) {
      this.#checkDisjoint(oneOf as unknown[], `${path}/oneOf`);
      return this.#alternatives(oneOf as unknown[], rest, `${path}/oneOf`);
    }
    if (rest.const !== undefined || rest.enum !== undefined) return this.#constants(rest, path);
    const types = typesOf(rest);
    if (types.length === TYPES.length) return this.#json.value;
    return this.make.choice(...types.map((type) => this.#ofType(type, rest, path)));
  }

  #check(schema: unknown, path: string): void {
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw invalid(`The schema at ${path} must be an object or a boolean.`);
    }
    for (const [keyword, value] of Object.entries(schema)) {
      if (ANNOTATIONS.has(keyword) || (keyword === '$id' && path === '#')) continue;
      const row: KeywordRow | undefined = Object.hasOwn(KEYWORDS, keyword) ? KEYWORDS[keyword] : undefined;
      if (row === undefined) this.#refuse(path, keyword);
      if (!row.fits(value)) throw invalid(`The schema's '${keyword}' at ${path} must be ${row.must}.`);
      if (row.refuses?.(value)) this.#refuse(path, keyword);
    }
  }

  /** The schema that `$ref` names, alone as a rule, or joined with the keywords beside it. */
  #reference(schema: Schema, path: string): Expression {
    const { $ref, ...beside } = schema;
    const pointer = $ref as string;
    const target = this.#resolve(pointer, path);
    if (Object.keys(beside).some((keyword) => !ANNOTATIONS.has(keyword))) {
      return this.#readJoined([beside, target], path);
    }
    let rule = this.#byPointer.get(pointer);
    if (rule === undefined) {
      rule = this.make.rule(pointer);
      this.#byPointer.set(pointer, rule);
      rule.body = this.read(target, pointer);
    }
    return rule;
  }

  #resolve(pointer: string, path: string): unknown {
    if (pointer !== '#' && !pointer.startsWith('#/')) {
      throw invalid(`The schema's '$ref' at ${path} must be a pointer within it, such as "#/$defs/name".`);
    }
    let at: unknown = this.whole;
    for (const part of pointer.split('/').slice(1)) {
      const name = decodePart(part);
      if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) {
        throw invalid(`The schema's '$ref' at ${path} names nothing.`);
      }
      at = (at as Schema)[name];
    }
    return at;
  }

  /** Reads schemas that must hold together. */
  #readJoined(schemas: readonly unknown[], path: string): Expression {
    const merged = schemas.reduce<unknown>(
      (all, schema) => this.#join(all, this.#opened(schema, path), path),
      true,
    );
    const key = JSON.stringify(merged);
    this.#joinedLength += key.length;
    if (this.#joinedLength > MOST_JOINED)
      throw tooLarge(`its joins have more than ${MOST_JOINED} characters`);
    let rule = this.#joined.get(key);
    if (rule === undefined) {
      rule = this.make.rule(path);
      this.#joined.set(key, rule);
      rule.body = this.read(merged, path);
    }
    return rule;
  }

  #join(a: unknown, b: unknown, path: string): unknown {
    return mergeSchemas(a, b, (keyword) => {
      throw invalid(`The schemas that must hold together at ${path} can't be joined: '${keyword}' differs.`);
    });
  }

  /** A schema with what its `$ref` and `allOf` say in itself. */
  #opened(schema: unknown, path: string): unknown {
    if (typeof schema !== 'object' || schema === null) return schema;
    if (++this.#reads > MOST_READS) throw tooLarge(`its schemas and their joins are more than ${MOST_READS}`);
    if (++this.#depth > MOST_DEPTH) throw tooLarge(`its schemas are nested more than ${MOST_DEPTH} deep`);
    this.#check(schema, path);
    const { $ref, allOf, ...rest } = schema as Schema;
    const parts: unknown[] = [...(allOf === undefined ? [] : (allOf as unknown[]))];
    if ($ref !== undefined) parts.push(this.#resolve($ref as string, path));
    const opened = parts.reduce<unknown>(
      (all, part) => this.#join(all, this.#opened(part, path), path),
      rest,
    );
    this.#depth--;
    return opened;
  }

  #alternatives(options: readonly unknown[], beside: Schema, path: string): Expression {
    const isAlone = Object.keys(beside).every((keyword) => ANNOTATIONS.has(keyword));
    return this.make.choiceOf(
      options.map((option, i) =>
        isAlone ? this.read(option, `${path}/${i}`) : this.#readJoined([beside, option], `${path}/${i}`),
      ),
    );
  }

  /** Exactly one of them must hold, so no value may be valid by two. */
  #checkDisjoint(options: readonly unknown[], path: string): void {
    const opened = options.map((option, i) => this.#opened(option, `${path}/${i}`));
    for (let i = 0; i < opened.length; i++) {
      for (let j = 0; j < i; j++) {
        if (areDisjoint(opened[i], opened[j], (schema) => this.#opened(schema, path))) continue;
        throw invalid(
          `The schema's 'oneOf' at ${path} must have options of different types or constants, since values valid ` +
            `by two are not: ${j} and ${i} may be. 'anyOf' allows them.`,
        );
      }
    }
  }

  #constants(schema: Schema, path: string): Expression {
    const { const: only, enum: listed, type, ...others } = schema;
    const beside = Object.keys(others).find((keyword) => !ANNOTATIONS.has(keyword));
    if (beside !== undefined) {
      throw invalid(`The schema's '${beside}' at ${path} is not supported beside constants.`);
    }
    const types = type === undefined ? TYPES : typesOf(schema);
    const isOfType = (value: unknown) =>
      types.includes(typeOf(value)) || (types.includes('integer') && Number.isInteger(value));
    const values = listed === undefined ? [only] : (listed as unknown[]);
    const allowed = values.filter(
      (value) => isOfType(value) && (only === undefined || JSON.stringify(only) === JSON.stringify(value)),
    );
    return this.make.choiceOf(allowed.map((value) => this.#json.literal(value)));
  }

  #ofType(type: string, schema: Schema, path: string): Expression {
    if (type === 'object') return this.#object(schema, path);
    if (type === 'array') return this.#array(schema, path);
    if (type === 'string') return this.#string(schema, path);
    if (type === 'boolean') return this.#json.boolean;
    if (type === 'null') return this.#json.null;
    return this.make.rule('number', this.#number(schema, type === 'integer', path));
  }

  #object(schema: Schema, path: string): Expression {
    const { make } = this;
    const { minProperties: least = 0, maxProperties: most = NO_LIMIT } = schema as Record<string, number>;
    const properties = (schema.properties ?? {}) as Schema;
    const required = new Set((schema.required ?? []) as string[]);
    const more = schema.additionalProperties ?? Object.keys(properties).length === 0;
    const names = [...new Set([...Object.keys(properties), ...required])];
    const members = names.map((name) => {
      const [value, at] = Object.hasOwn(properties, name)
        ? [properties[name], `${path}/properties/${name}`]
        : [schema.additionalProperties ?? true, `${path}/additionalProperties`];
      return make.sequence(this.#json.literal(name), this.#json.colon, this.read(value, at));
    });
    const other =
      more === false
        ? make.never
        : make.sequence(
            this.#json.key(names),
            this.#json.colon,
            this.read(more, `${path}/additionalProperties`),
          );
    // Names that come twice count once, so a number of free members can't be promised.
    if (least > required.size && !(least === 1 && names.length === 0)) this.#refuse(path, 'minProperties');
    if (most < names.length) this.#refuse(path, 'maxProperties');
    if (names.length === 0) return this.#members(other, least, most);
    return this.#record(
      members,
      names.map((name) => required.has(name)),
      other,
      most - names.length,
    );
  }

  /** An object of free members. */
  #members(member: Expression, least: number, most: number): Expression {
    return this.make.rule('object', this.#json.object(member, least, member === this.make.never ? 0 : most));
  }

  /** An object of members in their order, of which some may be left out, followed by up to `most` others. */
  #record(
    members: readonly Expression[],
    required: readonly boolean[],
    other: Expression,
    most: number,
  ): Expression {
    const { make } = this;
    const { comma, gap } = this.#json;
    const hasOthers = other !== make.never && most > 0;
    const others = make.sequence(comma, other);
    // What may follow a member, and what may come first, from the last member to the first one.
    let after: Expression = hasOthers ? make.repeat(others, 0, most) : make.empty;
    let first = hasOthers ? make.sequence(other, make.repeat(others, 0, most - 1)) : make.never;
    for (let i = members.length - 1; i >= 0; i--) {
      const withThis = make.sequence(members[i], after);
      first = required[i] ? withThis : make.choice(withThis, first);
      const next = make.sequence(comma, members[i], after);
      after = required[i] ? next : make.choice(next, after);
    }
    const none = required.includes(true) ? make.never : make.empty;
    const inner = make.choice(make.sequence(gap, first, gap), none);
    return make.rule('object', make.sequence(make.text('{'), inner, make.text('}')));
  }

  #array(schema: Schema, path: string): Expression {
    const { make } = this;
    const { minItems = 0, maxItems = NO_LIMIT } = schema as Record<string, number>;
    const prefix = (schema.prefixItems ?? []) as unknown[];
    const items = schema.items ?? prefix.length === 0;
    const most = items === false ? Math.min(maxItems, prefix.length) : maxItems;
    if (minItems > most) return make.never;
    if (schema.uniqueItems === true && most > 1) this.#refuse(path, 'uniqueItems');
    const item = most > prefix.length ? this.read(items, `${path}/items`) : make.never;
    if (prefix.length === 0)
      return make.rule('array', this.#json.array(item, minItems, item === make.never ? 0 : most));
    const { comma, gap } = this.#json;
    const first = prefix.slice(0, most).map((each, i) => this.read(each, `${path}/prefixItems/${i}`));
    const least = Math.max(0, minItems - prefix.length);
    const rest = make.repeat(make.sequence(comma, item), least, Math.max(0, most - prefix.length));
    const listed = first.flatMap((each, i) => (i === 0 ? [each] : [comma, each]));
    const inner = listed.length === 0 ? [] : [gap, ...listed, item === make.never ? make.empty : rest, gap];
    return make.rule('array', make.sequence(make.text('['), ...inner, make.text(']')));
  }

  #string(schema: Schema, path: string): Expression {
    const { minLength = 0, maxLength = NO_LIMIT } = schema as Record<string, number>;
    const pattern = schema.pattern as string | undefined;
    const format = schema.format as string | undefined;
    if (minLength > maxLength) return this.make.never;
    if (pattern === undefined && format === undefined) {
      return this.#json.string(this.make.repeat(this.#json.character, minLength, maxLength));
    }
    if (pattern !== undefined && format !== undefined) this.#refuse(path, 'format', "beside 'pattern'");
    if (format !== undefined && !Object.hasOwn(FORMATS, format)) {
      throw invalid(`The schema's 'format' at ${path} must be one of ${Object.keys(FORMATS).join(', ')}.`);
    }
    const encode = this.#json.encode.bind(this.#json);
    const { expression, min, max } = this.#inPlace(path, () =>
      readSearch(pattern ?? FORMATS[format!], this.make, encode),
    );
    const beside = `beside '${pattern === undefined ? 'format' : 'pattern'}', whose texts may have other lengths`;
    if (minLength > min) this.#refuse(path, 'minLength', beside);
    if (maxLength < max) this.#refuse(path, 'maxLength', beside);
    return this.#json.string(expression);
  }

  #number(schema: Schema, isInteger: boolean, path: string): Expression {
    const { numbers } = this.#json;
    const { multipleOf } = schema as Record<string, number | undefined>;
    const [lo, hi] = [this.#bound(schema, 'inimum', 1, path), this.#bound(schema, 'aximum', -1, path)];
    if (multipleOf !== undefined && !(Number.isInteger(multipleOf) && multipleOf <= MOST_DIVISOR)) {
      this.#refuse(path, 'multipleOf', `other than integers up to ${MOST_DIVISOR}`);
    }
    if (!isInteger && multipleOf === undefined) {
      return lo === null && hi === null ? numbers.any() : numbers.between(lo, hi);
    }
    const most = INTEGER_LIMIT - 1;
    const least = lo === null ? -most : above(lo.value, lo.inclusive);
    const last = hi === null ? most : -above(-hi.value, hi.inclusive);
    return least > last ? this.make.never : numbers.integers(least, last, multipleOf ?? 1);
  }

  /** The stricter of `minimum` and `exclusiveMinimum`, or of their counterparts; null for none within what is written. */
  #bound(schema: Schema, name: 'inimum' | 'aximum', sign: number, path: string): Bound | null {
    const inclusive = schema[`m${name}`] as number | undefined;
    const exclusive = schema[`exclusiveM${name}`] as number | undefined;
    if (inclusive === undefined && exclusive === undefined) return null;
    const isExclusive =
      exclusive !== undefined && (inclusive === undefined || sign * exclusive >= sign * inclusive);
    const value = (isExclusive ? exclusive : inclusive)!;
    if (sign * value >= INTEGER_LIMIT) {
      this.#refuse(path, isExclusive ? `exclusiveM${name}` : `m${name}`, `beyond ${INTEGER_LIMIT}`);
    }
    return sign * value <= -INTEGER_LIMIT ? null : { value, inclusive: !isExclusive };
  }

  /** Runs a reader of patterns; its errors get the place. */
  #inPlace<T>(path: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      const { message } = error as Error;
      throw (error as { code?: string }).code === 'SGEMOE_CONSTRAINT_INVALID'
        ? invalid(`The schema's 'pattern' at ${path}: ${message}`)
        : error;
    }
  }

  #refuse(path: string, keyword: string, when = ''): never {
    throw invalid(
      `The schema's '${shown(keyword)}' at ${path} is not supported${when === '' ? '' : ` ${when}`}.`,
    );
  }
}

/** The types that a schema asks for, or whose keywords it has; all where nothing tells. */
function typesOf(schema: Schema): string[] {
  const types = [schema.type ?? []].flat() as string[];
  if (schema.type !== undefined)
    return types.filter((type) => type !== 'integer' || !types.includes('number'));
  const told = Object.keys(schema).map((keyword) => KEYWORDS[keyword]?.type);
  const found = TYPES.filter((type) => told.includes(type));
  return found.length === 0 ? TYPES : found;
}

/** The least integer at or above a number, or above it. */
function above(value: number, inclusive: boolean): number {
  return inclusive ? Math.ceil(value) : Math.floor(value) + 1;
}

function given(values: Schema): Schema {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function decodePart(part: string): string {
  const text = part.replaceAll('~1', '/').replaceAll('~0', '~');
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function shown(keyword: string): string {
  return keyword.length > 60 ? `${keyword.slice(0, 60)}...` : keyword;
}
