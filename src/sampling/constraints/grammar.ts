import { type ByteSet, type Expression, type Expressions, invalid, type Rule, tooLarge } from './expressions';

/** Bounds the time that the properties of rules take: parts of rules that are looked at. */
const MOST_VISITS = 4_000_000;

const BYTES = 256;

type Property = (expression: Expression, known: Uint8Array) => boolean;

/** What a parser must know of expressions, beside themselves. */
export interface GrammarFacts {
  /** Byte -> class; bytes of one class are in the same sets. */
  readonly classOf: Uint8Array;
  /** A byte of each class. */
  readonly representatives: readonly number[];
  /** By expression id: whether it matches the empty text, and whether it matches any text. */
  readonly nullable: Uint8Array;
  readonly productive: Uint8Array;
}

/** An expression with what a parser must know of it: checked, and with its bytes in classes. */
export class Grammar {
  readonly classOf: Uint8Array;
  readonly representatives: readonly number[];

  /**
   * @param facts of the same expressions, where they are known.
   * @throws SgemoeError SGEMOE_CONSTRAINT_INVALID for left recursion, or when no text matches.
   */
  constructor(
    readonly expressions: Expressions,
    readonly root: Rule,
    readonly facts: GrammarFacts = factsOf(expressions),
  ) {
    this.classOf = facts.classOf;
    this.representatives = facts.representatives;
    if (!this.productive(root)) throw invalid('No text at all matches the constraint.');
  }

  nullable(expression: Expression): boolean {
    return nullableBy(expression, this.facts.nullable);
  }

  productive(expression: Expression): boolean {
    return productiveBy(expression, this.facts.productive);
  }
}

/** @throws SgemoeError SGEMOE_CONSTRAINT_INVALID for left recursion, SGEMOE_CONSTRAINT_LIMIT where it takes too long. */
function factsOf({ sets, rules, count }: Expressions): GrammarFacts {
  const classOf = new Uint8Array(BYTES);
  const representatives = partition(sets, classOf);
  const dependents = dependentsOf(rules);
  let visits = 0;
  const learnt = (by: Property): Uint8Array => {
    const known = new Uint8Array(count);
    // Computes a property of a rule's parts anew, and tells whether the rule got it just now.
    fixpoint(rules, dependents, (rule) => {
      visits += deep(rule.body, known, by);
      if (visits > MOST_VISITS) throw tooLarge('its rules depend on each other in too many ways');
      if (known[rule.id] === 1 || !by(rule.body, known)) return false;
      known[rule.id] = 1;
      return true;
    });
    return known;
  };
  const nullable = learnt(nullableBy);
  const productive = learnt(productiveBy);
  refuseLeftRecursion(rules, (expression) => nullableBy(expression, nullable));
  return { classOf, representatives, nullable, productive };
}

/** Computes a property of an expression and of all its parts, which is kept by id; rules stand for themselves. */
function deep(root: Expression, known: Uint8Array, by: Property): number {
  // Parts come before wholes, with a stack of our own, since sequences may be long.
  const seen = new Set<Expression>();
  const stack: { each: Expression; isDone: boolean }[] = [{ each: root, isDone: false }];
  while (stack.length > 0) {
    const { each, isDone } = stack.pop()!;
    if (isDone) known[each.id] = by(each, known) ? 1 : 0;
    else if (!seen.has(each) && each.kind !== 'rule') {
      seen.add(each);
      stack.push({ each, isDone: true });
      for (const part of partsOf(each)) stack.push({ each: part, isDone: false });
    }
  }
  return seen.size;
}

function nullableBy(expression: Expression, known: Uint8Array): boolean {
  return holdsBy(expression, known, true);
}

function productiveBy(expression: Expression, known: Uint8Array): boolean {
  return holdsBy(expression, known, false);
}

/** Whether an expression may be empty (`nullable`), or may end at all, by what is known of its parts. */
function holdsBy(expression: Expression, known: Uint8Array, nullable: boolean): boolean {
  if (known[expression.id] === 1) return true;
  switch (expression.kind) {
    case 'empty':
    case 'return':
      return true;
    case 'bytes':
      return !nullable;
    case 'sequence':
      return isKnown(expression.first, known, nullable) && isKnown(expression.rest, known, nullable);
    case 'choice':
      return expression.options.some((option) => isKnown(option, known, nullable));
    case 'repeat':
      return expression.min === 0 || isKnown(expression.of, known, nullable);
    default:
      return false;
  }
}

/** What is known of a part; leaves are told at once. */
function isKnown(part: Expression, known: Uint8Array, nullable: boolean): boolean {
  if (part.kind === 'empty') return true;
  if (part.kind === 'bytes') return !nullable;
  return known[part.id] === 1;
}

function partsOf(expression: Expression): readonly Expression[] {
  if (expression.kind === 'sequence') return [expression.first, expression.rest];
  if (expression.kind === 'choice') return expression.options;
  return expression.kind === 'repeat' ? [expression.of] : [];
}

/** Rule -> the rules whose bodies name it. */
function dependentsOf(rules: readonly Rule[]): Map<Rule, Rule[]> {
  const dependents = new Map<Rule, Rule[]>(rules.map((rule) => [rule, []]));
  for (const rule of rules) {
    for (const named of new Set(rulesIn(rule.body))) dependents.get(named)!.push(rule);
  }
  return dependents;
}

function* rulesIn(root: Expression): Generator<Rule> {
  const seen = new Set<Expression>();
  const stack = [root];
  while (stack.length > 0) {
    const each = stack.pop()!;
    if (seen.has(each)) continue;
    seen.add(each);
    if (each.kind === 'rule') yield each;
    else stack.push(...partsOf(each));
  }
}

/** Asks each rule whether it learnt something, and then again those that depend on it, until none did. */
function fixpoint(
  rules: readonly Rule[],
  dependents: ReadonlyMap<Rule, readonly Rule[]>,
  learn: (rule: Rule) => boolean,
): void {
  const waiting = new Set(rules);
  for (const rule of waiting) {
    waiting.delete(rule);
    if (learn(rule)) for (const dependent of dependents.get(rule)!) waiting.add(dependent);
  }
}

/** @throws SgemoeError SGEMOE_CONSTRAINT_INVALID for a rule that begins with itself. */
function refuseLeftRecursion(rules: readonly Rule[], nullable: (expression: Expression) => boolean): void {
  const state = new Map<Rule, 'open' | 'done'>();
  for (const start of rules) {
    // A stack of our own: a chain of rules may be long.
    const path: { rule: Rule; next: Rule[] }[] = [];
    const enter = (rule: Rule) => {
      state.set(rule, 'open');
      path.push({ rule, next: leftRules(rule.body, nullable) });
    };
    if (!state.has(start)) enter(start);
    while (path.length > 0) {
      const { rule, next } = path.at(-1)!;
      const called = next.pop();
      if (called === undefined) {
        state.set(rule, 'done');
        path.pop();
      } else if (!state.has(called)) enter(called);
      else if (state.get(called) === 'open') {
        throw invalid(`The rule '${called.name}' begins with itself; left recursion is not supported.`);
      }
    }
  }
}

/** The rules that a text of this expression may begin with. */
function leftRules(root: Expression, nullable: (expression: Expression) => boolean): Rule[] {
  const found = new Set<Rule>();
  const seen = new Set<Expression>();
  const stack = [root];
  while (stack.length > 0) {
    const each = stack.pop()!;
    if (seen.has(each)) continue;
    seen.add(each);
    if (each.kind === 'rule') found.add(each);
    else if (each.kind !== 'sequence') stack.push(...partsOf(each));
    else {
      stack.push(each.first);
      if (nullable(each.first)) stack.push(each.rest);
    }
  }
  return [...found];
}

/** Fills in the classes of bytes that no set tells apart; returns a byte of each. */
function partition(sets: readonly ByteSet[], classOf: Uint8Array): number[] {
  let count = 1;
  for (const set of sets) {
    const split = new Map<number, number>();
    let next = 0;
    for (let byte = 0; byte < 256; byte++) {
      const key = 2 * classOf[byte] + (set.has(byte) ? 1 : 0);
      if (!split.has(key)) split.set(key, next++);
      classOf[byte] = split.get(key)!;
    }
    count = next;
  }
  const representatives = new Array<number>(count).fill(0);
  for (let byte = 255; byte >= 0; byte--) representatives[classOf[byte]] = byte;
  return representatives;
}
