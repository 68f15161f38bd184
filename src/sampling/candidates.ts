import type { Kernels } from '../backend/kernels';

/** Number of biased (by 127) binary exponents of float32 numbers in [0, 1]. */
const EXPONENTS = 128;
const EXPONENT_SHIFT = 23;

/**
 * The tokens that may be drawn, with weights e^((logit - largest) / temperature), and the filters that remove some of them.
 * More probable tokens come first, among equal ones the lower index; this total order makes filters unambiguous. A draw
 * leaves nothing for the next, so one object serves all samplers of a thread.
 */
export class Candidates {
  count = 0;
  /** Weights by token. */
  #weights = new Float32Array(0);
  /** The same memory as integers, for the exponents. */
  #bits = new Int32Array(0);
  /** The candidates by index. */
  #tokens = new Int32Array(0);
  /** The candidates in the order that a selection makes. */
  #order = new Int32Array(0);
  /** Number of candidates by exponent, followed by their mass. */
  readonly #counts = new Int32Array(EXPONENTS);
  readonly #masses = new Float64Array(EXPONENTS);

  constructor(private readonly kernels: Kernels) {}

  /** Weighs logits [at, at + n), whose maximum is `largest`; all with a weight above 0 become candidates. */
  weigh(logits: ArrayLike<number>, at: number, n: number, largest: number, temperature: number): void {
    if (this.#weights.length < n) {
      this.#weights = new Float32Array(n);
      this.#bits = new Int32Array(this.#weights.buffer);
      this.#tokens = new Int32Array(n);
      this.#order = new Int32Array(n);
    }
    const weights = this.#weights;
    for (let i = 0; i < n; i++) {
      const logit = logits[at + i];
      // The largest weighs 1, also where Infinity - Infinity or a tiny temperature would give NaN.
      weights[i] = logit === largest ? 0 : (logit - largest) / temperature;
    }
    this.kernels.exp(weights, 0, weights, 0, n);
    let count = 0;
    for (let i = 0; i < n; i++) {
      if (weights[i] > 0) this.#tokens[count++] = i;
    }
    this.count = count;
  }

  /** Keeps the k most probable tokens. */
  keepTopK(k: number): void {
    if (k >= this.count) return;
    this.#sumByExponent();
    let least = EXPONENTS - 1;
    for (let count = this.#counts[least]; count < k; count += this.#counts[least]) least--;
    const target = k - 1;
    let low = 0;
    let high = this.#copyOrder(least) - 1;
    while (low < high) {
      const border = this.#partition(low, high);
      if (border === target) break;
      if (border < target) low = border + 1;
      else high = border - 1;
    }
    this.#keepUpTo(this.#order[target]);
  }

  /** Keeps the most probable tokens whose mass reaches p, by a selection by mass in O(n). */
  keepTopP(p: number): void {
    if (p >= 1) return;
    const weights = this.#weights;
    const order = this.#order;
    let target = p * this.#sumByExponent();
    let least = EXPONENTS - 1;
    for (let mass = this.#masses[least]; mass < target && least > 0; mass += this.#masses[least]) least--;
    const copied = this.#copyOrder(least);
    let low = 0;
    let high = copied - 1;
    while (low < high) {
      const border = this.#partition(low, high);
      const mass = this.#mass(low, border);
      if (mass - weights[order[border]] >= target) high = border - 1;
      else if (mass >= target) {
        low = border;
        break;
      } else {
        target -= mass;
        low = border + 1;
      }
    }
    // Rounding may put the target beyond the last candidate.
    this.#keepUpTo(order[Math.min(low, copied - 1)]);
  }

  /** Keeps tokens at least p times as probable as the best one, which weighs 1. */
  keepMinP(p: number): void {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      const token = this.#tokens[i];
      if (this.#weights[token] >= p) this.#tokens[kept++] = token;
    }
    this.count = kept;
  }

  /** @param u a uniform number in [0, 1). */
  draw(u: number): number {
    const tokens = this.#tokens;
    let total = 0;
    for (let i = 0; i < this.count; i++) total += this.#weights[tokens[i]];
    let left = u * total;
    for (let i = 0; i < this.count; i++) {
      left -= this.#weights[tokens[i]];
      if (left < 0) return tokens[i];
    }
    return tokens[this.count - 1];
  }

  /** Drops the candidates after `last`; the others stay in the order of their index. */
  #keepUpTo(last: number): void {
    const tokens = this.#tokens;
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      if (!this.#before(last, tokens[i])) tokens[kept++] = tokens[i];
    }
    this.count = kept;
  }

  /** Sums counts and masses by exponent and returns the total mass. Most of a vocabulary lies below a filter's cut. */
  #sumByExponent(): number {
    this.#counts.fill(0);
    this.#masses.fill(0);
    let total = 0;
    for (let i = 0; i < this.count; i++) {
      const token = this.#tokens[i];
      const exponent = this.#bits[token] >>> EXPONENT_SHIFT;
      this.#counts[exponent]++;
      this.#masses[exponent] += this.#weights[token];
      total += this.#weights[token];
    }
    return total;
  }

  /** Copies the candidates with at least this exponent, which come before all others, and returns their number. */
  #copyOrder(least: number): number {
    let copied = 0;
    for (let i = 0; i < this.count; i++) {
      const token = this.#tokens[i];
      if (this.#bits[token] >>> EXPONENT_SHIFT >= least) this.#order[copied++] = token;
    }
    return copied;
  }

  /** The sum of the weights of order[low ..= high]. */
  #mass(low: number, high: number): number {
    let sum = 0;
    for (let i = low; i <= high; i++) sum += this.#weights[this.#order[i]];
    return sum;
  }

  /** Puts one of order[low ..= high] in its place, with its predecessors to its left; returns the place. */
  #partition(low: number, high: number): number {
    const order = this.#order;
    swap(order, (low + high) >>> 1, high);
    const pivot = order[high];
    let border = low;
    for (let i = low; i < high; i++) {
      if (this.#before(order[i], pivot)) swap(order, i, border++);
    }
    swap(order, border, high);
    return border;
  }

  #before(a: number, b: number): boolean {
    const weights = this.#weights;
    return weights[a] > weights[b] || (weights[a] === weights[b] && a < b);
  }
}

/** Index of the largest of logits [at, at + n); ties: the lower one; never NaN. @throws RangeError when there is none. */
export function argmax(logits: ArrayLike<number>, at = 0, n = logits.length): number {
  let best = -1;
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < n; i++) {
    if (logits[at + i] > largest) {
      largest = logits[at + i];
      best = i;
    }
  }
  if (best < 0) throw new RangeError('pickToken: logits hold no number above -Infinity');
  return best;
}

function swap(array: Int32Array, i: number, j: number): void {
  const kept = array[i];
  array[i] = array[j];
  array[j] = kept;
}
