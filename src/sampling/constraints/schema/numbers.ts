import type { Expression, Expressions } from '../expressions';

/** Digits before the point, and after it: so many are exact in a double. */
export const MOST_DIGITS = 15;
/** Integers of MOST_DIGITS digits lie below it. */
export const INTEGER_LIMIT = 10 ** MOST_DIGITS;
/** Digits of an exponent: up to 1e99, which is finite with any digits before. */
const EXPONENT_DIGITS = 2;

/** A decimal number >= 0 as text: digits before and after the point, without needless zeros. */
interface Decimal {
  readonly int: string;
  readonly fraction: string;
}

/** An end of a range of numbers. */
export interface Bound {
  readonly value: number;
  /** Whether the number itself is in. */
  readonly inclusive: boolean;
}

/** Integers and decimal numbers in JSON, of bounded length. */
export class Numbers {
  readonly #digit: Expression;

  constructor(private readonly make: Expressions) {
    this.#digit = this.#digits(0, 9);
  }

  /** Integers lo ..= hi that `divisor` divides; the ends are integers within INTEGER_LIMIT. */
  integers(lo: number, hi: number, divisor: number): Expression {
    const { make } = this;
    return make.choice(
      hi >= 0 ? this.#naturals(Math.max(lo, 0), hi, divisor) : make.never,
      lo < 0 ? make.sequence(make.text('-'), this.#naturals(Math.max(1, -hi), -lo, divisor)) : make.never,
    );
  }

  /** Any number: the form that models write. */
  any(): Expression {
    const { make } = this;
    const exponent = make.sequence(
      make.choice(make.text('e'), make.text('E')),
      make.optional(make.choice(make.text('+'), make.text('-'))),
      make.repeat(this.#digit, 1, EXPONENT_DIGITS),
    );
    const natural = this.#naturals(0, INTEGER_LIMIT - 1, 1);
    return make.sequence(
      make.optional(make.text('-')),
      natural,
      this.#fraction(MOST_DIGITS),
      make.optional(exponent),
    );
  }

  /** Numbers between two bounds (null for none), without an exponent. */
  between(lo: Bound | null, hi: Bound | null): Expression {
    const { make } = this;
    const zero: Bound = { value: 0, inclusive: true };
    const below = lo === null || lo.value < 0;
    const above = hi === null || hi.value >= 0;
    const negative = () => {
      const least = hi !== null && hi.value < 0 ? negate(hi) : { value: 0, inclusive: false };
      return make.sequence(make.text('-'), this.#nonNegative(least, lo && negate(lo)));
    };
    return make.choice(
      above ? this.#nonNegative(lo === null || below ? zero : lo, hi) : make.never,
      below ? negative() : make.never,
    );
  }

  #nonNegative(lo: Bound, hi: Bound | null): Expression {
    const { make } = this;
    const low = decimalOf(lo.value);
    const high = hi && decimalOf(hi.value);
    const room = Math.max(1, MOST_DIGITS - Math.max(low.int.length, high?.int.length ?? 0));
    const [first, last] = [Number(low.int), high === null ? INTEGER_LIMIT - 1 : Number(high.int)];
    if (first > last) return make.never;
    const top = high && { fraction: high.fraction, inclusive: hi!.inclusive };
    const bottom = { fraction: low.fraction, inclusive: lo.inclusive };
    if (first === last && top !== null) {
      return make.sequence(make.text(low.int), this.#point(bottom, top, room));
    }
    const [from, to] = [first + 1, top === null ? last : last - 1];
    return make.choice(
      make.sequence(make.text(low.int), this.#point(bottom, null, room)),
      from <= to ? make.sequence(this.#naturals(from, to, 1), this.#fraction(room)) : make.never,
      top === null ? make.never : make.sequence(make.text(high!.int), this.#point(null, top, room)),
    );
  }

  /** What may follow the digits before the point, where these are a bound's. */
  #point(lo: FractionBound | null, hi: FractionBound | null, room: number): Expression {
    const { make } = this;
    const tail = this.#tail(lo, hi, room, false);
    return make.choice(
      isZeroIn(lo, hi) ? make.empty : make.never,
      tail === make.never ? tail : make.sequence(make.text('.'), tail),
    );
  }

  /** Digits after the point, up to `room`, between two bounds. @param mayStop whether none may follow. */
  #tail(lo: FractionBound | null, hi: FractionBound | null, room: number, mayStop: boolean): Expression {
    const { make } = this;
    const stop = mayStop && isZeroIn(lo, hi) ? make.empty : make.never;
    if (room === 0) return stop;
    if (lo === null && hi === null) return make.repeat(this.#digit, mayStop ? 0 : 1, room);
    const least = lo === null ? 0 : digitOf(lo);
    const most = hi === null ? 9 : digitOf(hi);
    const options: Expression[] = [stop];
    for (let digit = least; digit <= most; digit++) {
      const lower = lo !== null && digit === least ? shift(lo) : null;
      const upper = hi !== null && digit === most ? shift(hi) : null;
      const rest = this.#tail(lower, upper, room - 1, true);
      if (rest !== make.never) options.push(make.sequence(this.#digits(digit, digit), rest));
    }
    return make.choice(...options);
  }

  #fraction(room: number): Expression {
    const { make } = this;
    return make.optional(make.sequence(make.text('.'), make.repeat(this.#digit, 1, room)));
  }

  /** Integers lo ..= hi >= 0 that `divisor` divides, without leading zeros. */
  #naturals(lo: number, hi: number, divisor: number): Expression {
    const options: Expression[] = [];
    for (let length = String(lo).length; length <= String(hi).length; length++) {
      const least = String(Math.max(lo, length === 1 ? 0 : 10 ** (length - 1)));
      const most = String(Math.min(hi, 10 ** length - 1));
      options.push(this.#numerals(least, most, divisor));
    }
    return this.make.choice(...options);
  }

  /** Numerals least ..= most of one length that `divisor` divides. */
  #numerals(least: string, most: string, divisor: number): Expression {
    const { make } = this;
    const { length } = least;
    const known = new Map<string, Expression>();
    const from = (at: number, isLeast: boolean, isMost: boolean, remainder: number): Expression => {
      if (at === length) return remainder === 0 ? make.empty : make.never;
      if (divisor === 1 && !isLeast && !isMost) return make.repeat(this.#digit, length - at, length - at);
      const key = `${at},${isLeast},${isMost},${remainder}`;
      let expression = known.get(key);
      if (expression === undefined) {
        const [low, high] = [isLeast ? Number(least[at]) : 0, isMost ? Number(most[at]) : 9];
        const byRest = new Map<Expression, [number, number][]>();
        for (let digit = low; digit <= high; digit++) {
          const next = (10 * remainder + digit) % divisor;
          const rest = from(at + 1, isLeast && digit === low, isMost && digit === high, next);
          if (rest !== make.never)
            byRest.set(rest, [...(byRest.get(rest) ?? []), [0x30 + digit, 0x30 + digit]]);
        }
        expression = make.choice(
          ...[...byRest].map(([rest, digits]) => make.sequence(make.bytes(...digits), rest)),
        );
        known.set(key, expression);
      }
      return expression;
    };
    return from(0, true, true, 0);
  }

  #digits(lo: number, hi: number): Expression {
    return this.make.bytes([0x30 + lo, 0x30 + hi]);
  }
}

/** The digits of a bound behind the point; '' is 0. */
interface FractionBound {
  readonly fraction: string;
  readonly inclusive: boolean;
}

/** Whether no more digits, which is 0, lies between the bounds. */
function isZeroIn(lo: FractionBound | null, hi: FractionBound | null): boolean {
  const isAbove = lo === null || (lo.fraction === '' && lo.inclusive);
  return isAbove && (hi === null || hi.fraction !== '' || hi.inclusive);
}

function digitOf({ fraction }: FractionBound): number {
  return fraction === '' ? 0 : Number(fraction[0]);
}

function shift({ fraction, inclusive }: FractionBound): FractionBound {
  return { fraction: fraction.slice(1), inclusive };
}

function negate({ value, inclusive }: Bound): Bound {
  return { value: -value, inclusive };
}

/** The digits of a number >= 0 that a double's shortest form has. */
function decimalOf(value: number): Decimal {
  const [mantissa, exponent] = value.toExponential().split('e');
  const digits = mantissa.replace('.', '');
  const point = Number(exponent) + 1;
  const int = point <= 0 ? '0' : digits.slice(0, point).padEnd(point, '0');
  const fraction = point <= 0 ? '0'.repeat(-point) + digits : digits.slice(point);
  return { int: int.replace(/^0+(?=\d)/, ''), fraction: fraction.replace(/0+$/, '') };
}
