import { ByteSet, type Expression, Expressions, type Rule } from './expressions';
import { Grammar, type GrammarFacts } from './grammar';

const KINDS = ['empty', 'never', 'return', 'bytes', 'sequence', 'choice', 'repeat', 'rule'] as const;
const BYTES = 256;

/**
 * A compiled grammar as plain data, which one thread compiles and another follows. Expressions stand in columns by id: `a`, `b`
 * and `c` are the ids and numbers of a kind's fields in their order; a choice has its options in `lists`, from `a`, `b` of them.
 */
export interface GrammarData {
  readonly root: number;
  readonly kinds: Uint8Array;
  readonly a: Int32Array;
  readonly b: Float64Array;
  readonly c: Float64Array;
  readonly lists: Int32Array;
  readonly rules: readonly { readonly id: number; readonly name: string }[];
  /** [sets, 256]: whether a byte is in a set. */
  readonly sets: Uint8Array;
  readonly facts: GrammarFacts;
}

/** The data of a grammar that nothing has followed yet. */
export function packGrammar({ expressions, root, facts }: Grammar): GrammarData {
  const { count, rules, sets } = expressions;
  const kinds = new Uint8Array(count);
  const a = new Int32Array(count);
  const b = new Float64Array(count);
  const c = new Float64Array(count);
  const lists: number[] = [];
  const placeOf = new Map(sets.map((set, i) => [set, i]));
  const stack: Expression[] = [...rules];
  const put = (id: number, first: number, second: number, third: number, parts: readonly Expression[]) => {
    a[id] = first;
    b[id] = second;
    c[id] = third;
    // A part that is known already has a kind that isn't 'empty'; the leaves need nothing.
    for (const part of parts) if (part.id > 2 && kinds[part.id] === 0) stack.push(part);
  };
  for (let each = stack.pop(); each !== undefined; each = stack.pop()) {
    const { id, kind } = each;
    if (kinds[id] !== 0) continue;
    kinds[id] = KINDS.indexOf(kind);
    if (kind === 'bytes') put(id, placeOf.get(each.set)!, 0, 0, []);
    else if (kind === 'sequence') put(id, each.first.id, each.rest.id, 0, [each.first, each.rest]);
    else if (kind === 'repeat') put(id, each.of.id, each.min, each.max, [each.of]);
    else if (kind === 'rule') put(id, each.body.id, 0, 0, [each.body]);
    else if (kind === 'choice') {
      put(id, lists.length, each.options.length, 0, each.options);
      for (const option of each.options) lists.push(option.id);
    }
  }
  return {
    root: root.id,
    kinds,
    a,
    b,
    c,
    lists: Int32Array.from(lists),
    rules: rules.map(({ id, name }) => ({ id, name })),
    sets: Uint8Array.from({ length: BYTES * sets.length }, (_, i) => (sets[i >> 8].has(i & 255) ? 1 : 0)),
    facts,
  };
}

/** The grammar again, with the same ids. */
export function unpackGrammar(data: GrammarData): Grammar {
  const { kinds, a, b, c, facts } = data;
  const make = new Expressions();
  const sets = Array.from(
    { length: data.sets.length / BYTES },
    (_, i) => new ByteSet(data.sets.subarray(BYTES * i, BYTES * (i + 1))),
  );
  const leaves: Expression[] = [make.empty, make.never, make.return];
  const names = new Map(data.rules.map(({ id, name }) => [id, name]));
  const all = Array.from(kinds, (kind, id): Expression => {
    if (id < leaves.length || kind === 0) return leaves[id] ?? make.never;
    switch (KINDS[kind]) {
      case 'bytes':
        return { kind: 'bytes', id, set: sets[a[id]] };
      case 'sequence':
        return { kind: 'sequence', id, first: make.never, rest: make.never };
      case 'choice':
        return { kind: 'choice', id, options: [] };
      case 'repeat':
        return { kind: 'repeat', id, of: make.never, min: b[id], max: c[id] };
      default:
        return { kind: 'rule', id, name: names.get(id)!, body: make.never };
    }
  });
  for (const each of all) link(each as Linked, all, data);
  const rules = data.rules.map(({ id }) => all[id] as Rule);
  const repeats = all.filter((each) => each.kind === 'repeat');
  make.adopt({ count: kinds.length, rules, sets, repeats });
  return new Grammar(make, all[data.root] as Rule, facts);
}

/** Sets the parts of an expression, which were made after it. */
function link(each: Linked, all: readonly Expression[], { a, b, lists }: GrammarData): void {
  const { id } = each;
  if (each.kind === 'sequence') {
    each.first = all[a[id]];
    each.rest = all[b[id]];
  } else if (each.kind === 'choice') {
    each.options = Array.from(lists.subarray(a[id], a[id] + b[id]), (option) => all[option]);
  } else if (each.kind === 'repeat') each.of = all[a[id]];
  else if (each.kind === 'rule') each.body = all[a[id]];
}

/** An expression whose parts are still to be set. */
type Linked = Mutable<Expression>;
type Mutable<E> = E extends Expression ? { -readonly [K in keyof E]: E[K] } : never;
