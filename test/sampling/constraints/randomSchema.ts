import type { JsonSchema } from '../../../src/sampling/constraints/options';

/** Makes schemas of all supported keywords at random; the same numbers give the same schemas. */
export class RandomSchemas {
  /** @param uniform draws from [0, 1). */
  constructor(private readonly uniform: () => number) {}

  /** A schema, with definitions that may refer to each other and to themselves. */
  next(): JsonSchema {
    const depth = 3;
    // A definition that were nothing but a reference to itself would end the oracle's recursion only by the call stack.
    const one = { type: 'array', items: this.#schema(depth - 1), maxItems: 2 };
    const $defs = { one, two: this.#closed(1) };
    return { ...(this.#schema(depth) as object), $defs };
  }

  #schema(depth: number): object {
    const leaves = [this.#integer, this.#number, this.#string, this.#constant, this.#plain];
    const branches = [this.#object, this.#record, this.#array, this.#tuple, this.#any, this.#one, this.#all];
    const kinds = depth > 0 && this.#happens(0.7) ? branches : leaves;
    if (depth > 0 && this.#happens(0.1)) return { $ref: this.#of(['#/$defs/one', '#/$defs/two']) };
    return this.#of(kinds).call(this, depth - 1);
  }

  #integer(): object {
    const [a, b] = [this.#whole(-200, 200), this.#whole(-200, 200)];
    const schema: Record<string, unknown> = { type: 'integer' };
    if (this.#happens(0.5)) schema.minimum = Math.min(a, b);
    if (this.#happens(0.5)) schema.exclusiveMaximum = Math.max(a, b) + 1;
    if (this.#happens(0.2))
      return { type: 'integer', multipleOf: this.#whole(1, 9), minimum: 0, maximum: 999 };
    return schema;
  }

  #number(): object {
    const [a, b] = [this.#whole(-900, 900) / 8, this.#whole(-900, 900) / 10];
    const schema: Record<string, unknown> = { type: 'number' };
    if (this.#happens(0.5)) schema[this.#of(['minimum', 'exclusiveMinimum'])] = Math.min(a, b);
    if (this.#happens(0.5)) schema[this.#of(['maximum', 'exclusiveMaximum'])] = Math.max(a, b) + 0.1;
    return schema;
  }

  #string(): object {
    const kind = this.#whole(0, 3);
    if (kind === 0) return { type: 'string' };
    if (kind === 1) return { type: 'string', minLength: this.#whole(0, 3), maxLength: this.#whole(3, 12) };
    if (kind === 2) {
      const patterns = [
        '^[A-Z]{2,4}$',
        '^\\d+(\\.\\d+)?$',
        'a|b',
        '^(x|y"|\\\\){1,3}\\s?$',
        '^[^"]{0,5}$',
        '^\\w+@\\w+$',
      ];
      return { type: 'string', pattern: this.#of(patterns) };
    }
    const formats = [
      'date',
      'time',
      'date-time',
      'duration',
      'uuid',
      'email',
      'hostname',
      'ipv4',
      'ipv6',
      'uri',
    ];
    return { type: 'string', format: this.#of(formats) };
  }

  #constant(): object {
    const values = [1, -2.5, 'a', 'é"\\', null, true, { a: [1] }, []];
    return this.#happens(0.5) ? { const: this.#of(values) } : { enum: values.slice(this.#whole(0, 5)) };
  }

  #plain(): object {
    return this.#of<object>([
      { type: 'boolean' },
      { type: 'null' },
      { type: ['integer', 'null'] },
      { type: ['string', 'boolean'] },
    ]);
  }

  #object(depth: number): object {
    const names = ['a', 'ab', 'name "x"', 'é', 'b\n'].slice(0, this.#whole(0, 5));
    const properties = Object.fromEntries(names.map((name) => [name, this.#schema(depth)]));
    const required = names.filter(() => this.#happens(0.5));
    const schema: Record<string, unknown> = { type: 'object', properties, required };
    if (this.#happens(0.4)) schema.additionalProperties = this.#happens(0.5) ? this.#schema(depth) : false;
    return schema;
  }

  #record(depth: number): object {
    const schema: Record<string, unknown> = { type: 'object', additionalProperties: this.#schema(depth) };
    if (this.#happens(0.3)) schema.minProperties = 1;
    if (this.#happens(0.3)) schema.maxProperties = this.#whole(1, 3);
    return schema;
  }

  #closed(depth: number): object {
    const properties = {
      kind: { const: 'two' },
      value: this.#schema(depth),
      next: { anyOf: [{ $ref: '#/$defs/two' }, { type: 'null' }] },
    };
    return { type: 'object', properties, required: ['kind', 'value'], additionalProperties: false };
  }

  #array(depth: number): object {
    const schema: Record<string, unknown> = { type: 'array', items: this.#schema(depth) };
    if (this.#happens(0.5)) schema.minItems = this.#whole(0, 2);
    if (this.#happens(0.5)) schema.maxItems = this.#whole(2, 4);
    return schema;
  }

  #tuple(depth: number): object {
    return {
      type: 'array',
      prefixItems: [this.#schema(depth), this.#schema(depth)],
      items: this.#happens(0.5),
    };
  }

  #any(depth: number): object {
    return { anyOf: [this.#schema(depth), this.#schema(depth)] };
  }

  #one(depth: number): object {
    const tagged = (tag: string) => ({
      type: 'object',
      properties: { tag: { const: tag }, value: this.#schema(depth) },
      required: ['tag'],
    });
    return { oneOf: [tagged('x'), tagged('y'), { type: 'array', items: this.#schema(depth) }] };
  }

  #all(depth: number): object {
    const one = { type: 'object', properties: { a: this.#schema(depth) }, required: ['a'] };
    return { allOf: [one, { properties: { b: this.#schema(depth) } }, { required: ['b'] }] };
  }

  #of<T>(values: readonly T[]): T {
    return values[this.#whole(0, values.length - 1)];
  }

  #whole(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from + 1));
  }

  #happens(probability: number): boolean {
    return this.uniform() < probability;
  }
}
