import { type Expression, type Repeat, tooLarge } from './expressions';
import type { Grammar } from './grammar';

/** What a stack holds on top: an expression to match, and the stacks to go on with. */
interface Frame {
  readonly expression: Expression;
  readonly below: State;
}

/** A byte that may come next, and the state after it. */
interface Step {
  /** By class of byte: 1 for those that it takes. */
  readonly has: Uint8Array;
  readonly below: State[];
}

/** A set of stacks: all that may still follow what was read. Equal states of an automaton are one object. */
export class State {
  /** By class of byte: the next state, null where there is none, undefined where it wasn't asked for. */
  next: (State | null | undefined)[] | null = null;
  steps: readonly Step[] | null = null;
  /** Whether the text may end here. It holds once `steps` is there. */
  accepts = false;

  /** @param ends whether one of the stacks is empty. @param depth of the deepest stack. */
  constructor(
    readonly id: number,
    readonly frames: readonly Frame[],
    readonly ends: boolean,
    readonly depth: number,
  ) {}
}

/** A state that knows only the stacks within the running rules; where they end, `base` goes on. */
export interface Cut {
  readonly local: State;
  /** null where nothing was cut off. */
  readonly base: State | null;
}

/** Ids of states lie below it. Expressions have at most 18 bits, so that a pair of ids is an exact number. */
const MOST_IDS = 2 ** 34;
/** States that are remembered, and their next states; beyond one of them all are forgotten, and found anew. */
const MOST_STATES = 20_000;
const MOST_NEXT = 2 ** 20;
const MOST_DEPTH = 1_000;
/** Expressions and stacks that one question may look at: about 0.1 s. */
const MOST_WORK = 100_000;

/**
 * A byte-level pushdown automaton: it reads a text byte by byte and knows which bytes may follow. A state is a set of
 * stacks of expressions. Stacks with the same top share it, and go on with a set of stacks in turn (a graph-structured
 * stack, Tomita 1987); counted repetitions are expressions whose numbers fall (partial derivatives, Antimirov 1996). States
 * are made when they are reached, and kept.
 */
export class Automaton {
  readonly classOf: Uint8Array;
  readonly start: State;
  /** How often states were forgotten: what others keep by state is stale after it. */
  generation = 0;
  readonly #end = new State(0, [], true, 0);
  readonly #classes: number;
  readonly #mostStates: number;
  readonly #members = new Map<number, Uint8Array>();
  readonly #singles = new Map<number, State>();
  readonly #others = new Map<string, State>();
  #lastId = 0;
  #work = 0;

  constructor(private readonly grammar: Grammar) {
    this.classOf = grammar.classOf;
    this.#classes = grammar.representatives.length;
    this.#mostStates = Math.min(MOST_STATES, MOST_NEXT / this.#classes);
    this.start = this.#under(grammar.root, this.#end);
  }

  /** Begins a question, whose work is bounded. */
  begin(): void {
    this.#work = 0;
    if (this.#singles.size + this.#others.size > this.#mostStates) this.#forget();
  }

  /**
   * The state after a byte of this class; null if none may come.
   * @throws SgemoeError SGEMOE_CONSTRAINT_LIMIT when too much must be looked at.
   */
  next(state: State, byteClass: number): State | null {
    state.next ??= new Array<State | null | undefined>(this.#classes).fill(undefined);
    const known = state.next[byteClass];
    if (known !== undefined) return known;
    const after: State[] = [];
    for (const { has, below } of this.steps(state)) if (has[byteClass] === 1) after.push(...below);
    const next = after.length === 0 ? null : this.#union(after);
    state.next[byteClass] = next;
    return next;
  }

  /** The state after bytes; null if they don't fit. */
  read(state: State, bytes: Uint8Array): State | null {
    let at: State | null = state;
    for (let i = 0; i < bytes.length && at !== null; i++) at = this.next(at, this.classOf[bytes[i]]);
    return at;
  }

  accepts(state: State): boolean {
    if (state.steps === null) this.steps(state);
    return state.accepts;
  }

  /** Bytes that may come, with the states after them. */
  steps(state: State): readonly Step[] {
    if (state.steps !== null) return state.steps;
    const steps = new Map<number, Step>();
    const seen = new Set<number>();
    const waiting: Frame[] = [];
    const push = (expression: Expression, below: State) => {
      const key = expression.id * MOST_IDS + below.id;
      if (seen.has(key) || !this.grammar.productive(expression)) return;
      seen.add(key);
      this.#spend();
      waiting.push({ expression, below });
    };
    const leave = (below: State) => {
      if (below.ends) state.accepts = true;
      for (const frame of below.frames) push(frame.expression, frame.below);
    };
    leave(state);
    for (let frame = waiting.pop(); frame !== undefined; frame = waiting.pop()) {
      this.#open(frame, push, leave, steps);
    }
    state.steps = [...steps.values()];
    return state.steps;
  }

  /**
   * Cuts the stacks where the running rules end, if all of them go on in the same way there. Counts above `most` bytes become
   * unlimited ones, so that for so many bytes the local state allows just what the whole one does.
   */
  cut(state: State, most: number): Cut {
    let base: State | null = null;
    let isOne = true;
    const known = new Map<State, State>();
    const rebuild = (one: State): State => {
      const before = known.get(one);
      if (before !== undefined) return before;
      let { ends } = one;
      if (ends) meet(this.#end);
      const frames: Frame[] = [];
      for (const { expression, below } of one.frames) {
        if (expression.kind === 'return') {
          meet(below);
          ends = true;
        } else frames.push({ expression: this.#clamp(expression, most), below: rebuild(below) });
      }
      const local = this.#intern(frames, ends);
      known.set(one, local);
      return local;
    };
    const meet = (below: State) => {
      if (base !== null && base !== below) isOne = false;
      base = below;
    };
    const local = rebuild(state);
    return isOne && base !== null ? { local, base } : { local: state, base: null };
  }

  #open(
    { expression, below }: Frame,
    push: (expression: Expression, below: State) => void,
    leave: (below: State) => void,
    steps: Map<number, Step>,
  ): void {
    switch (expression.kind) {
      case 'bytes': {
        const step = steps.get(expression.id);
        if (step !== undefined) step.below.push(below);
        else steps.set(expression.id, { has: this.#membersOf(expression), below: [below] });
        return;
      }
      case 'sequence':
        push(expression.first, this.#under(expression.rest, below));
        return;
      case 'choice':
        for (const option of expression.options) push(option, below);
        return;
      case 'repeat':
        if (this.grammar.nullable(expression)) leave(below);
        if (this.grammar.productive(expression.of)) push(expression.of, this.#afterOne(expression, below));
        return;
      case 'rule':
        push(
          expression.body,
          this.#isReturn(below) ? below : this.#under(this.grammar.expressions.return, below),
        );
        return;
      case 'empty':
      case 'return':
        leave(below);
    }
  }

  /** The state in which one repetition is done. */
  #afterOne({ of, min, max }: Repeat, below: State): State {
    const rest = this.#repeat(of, Math.max(0, min - 1), max - 1);
    return rest.kind === 'empty' ? below : this.#under(rest, below);
  }

  #repeat(of: Expression, min: number, max: number): Expression {
    return this.grammar.expressions.repeat(of, min, max);
  }

  #clamp(expression: Expression, most: number): Expression {
    if (expression.kind !== 'repeat') return expression;
    const { of, min, max } = expression;
    return this.#repeat(of, Math.min(min, most + 1), max > most ? Number.POSITIVE_INFINITY : max);
  }

  /** Whether all stacks return from a rule at once: a call in the last place needs no return of its own. */
  #isReturn(state: State): boolean {
    if (state.frames.length === 0) return true;
    return state.frames.length === 1 && !state.ends && state.frames[0].expression.kind === 'return';
  }

  #under(expression: Expression, below: State): State {
    return this.#intern([{ expression, below }], false);
  }

  /** All stacks of some states; those with the same top share it. */
  #union(states: readonly State[]): State {
    if (states.every((each) => each === states[0])) return states[0];
    const byTop = new Map<Expression, State[]>();
    let ends = false;
    for (const state of new Set(states)) {
      ends ||= state.ends;
      for (const { expression, below } of state.frames) {
        this.#spend();
        const same = byTop.get(expression);
        if (same === undefined) byTop.set(expression, [below]);
        else same.push(below);
      }
    }
    const frames = Array.from(byTop, ([expression, below]) => ({ expression, below: this.#union(below) }));
    return this.#intern(frames, ends);
  }

  #intern(frames: Frame[], ends: boolean): State {
    if (frames.length === 0) return this.#end;
    if (frames.length === 1 && !ends) {
      const [{ expression, below }] = frames;
      const key = expression.id * MOST_IDS + below.id;
      let known = this.#singles.get(key);
      if (known === undefined) {
        known = this.#newState(frames, false);
        this.#singles.set(key, known);
      }
      return known;
    }
    frames.sort((a, b) => a.expression.id - b.expression.id);
    const key = `${ends}${frames.map(({ expression, below }) => `,${expression.id}:${below.id}`).join('')}`;
    let known = this.#others.get(key);
    if (known === undefined) {
      known = this.#newState(frames, ends);
      this.#others.set(key, known);
    }
    return known;
  }

  #newState(frames: readonly Frame[], ends: boolean): State {
    let depth = 0;
    for (const { below } of frames) depth = Math.max(depth, below.depth + 1);
    if (depth > MOST_DEPTH) throw tooLarge(`a text is nested more than ${MOST_DEPTH} parts deep`);
    return new State(++this.#lastId, frames, ends, depth);
  }

  /** The classes of bytes in a set. */
  #membersOf({ id, set }: Expression & { kind: 'bytes' }): Uint8Array {
    let members = this.#members.get(id);
    if (members === undefined) {
      members = Uint8Array.from(this.grammar.representatives, (byte) => (set.has(byte) ? 1 : 0));
      this.#members.set(id, members);
    }
    return members;
  }

  /** Forgets all states but those that others hold, and the ways from one to the next, which keep them alive. */
  #forget(): void {
    for (const known of [this.#singles, this.#others]) {
      for (const state of known.values()) {
        state.next = null;
        state.steps = null;
      }
      known.clear();
    }
    this.generation++;
  }

  #spend(): void {
    if (++this.#work > MOST_WORK) throw tooLarge('too many ways of reading a text must be followed at once');
  }
}
