import { matrix, reads, requireApart, writes } from './areas';
import { type Definitions, requireLd } from './checks';

const TWO_32 = 2 ** 32;
const NONE = -1;

interface Settings {
  readonly temperature: number;
  readonly topP: number;
  readonly minP: number;
  readonly topK: number;
  /** A number in [0, 1). */
  readonly u: number;
}

export const sampling: Definitions<'sampleRows'> = {
  sampleRows: {
    signature: `logits:floats logitsOffset ldLogits settings:floats settingsOffset choices:ints choicesOffset
      tokens:ints tokensOffset rows cols`,
    run(
      logits,
      logitsOffset,
      ldLogits,
      settings,
      settingsOffset,
      choices,
      choicesOffset,
      tokens,
      tokensOffset,
      rows,
      cols,
    ) {
      requireLd('sampleRows', 'ldLogits', ldLogits, cols);
      reads('sampleRows', 'logits', logits, logitsOffset, matrix(rows, cols, ldLogits));
      reads('sampleRows', 'settings', settings, settingsOffset, 3 * rows);
      reads('sampleRows', 'choices', choices, choicesOffset, 2 * rows);
      writes('sampleRows', 'tokens', tokens, tokensOffset, rows);
      requireApart('sampleRows');
      for (let r = 0; r < rows; r++) {
        const [temperature, topP, minP] = settings.subarray(
          settingsOffset + 3 * r,
          settingsOffset + 3 * r + 3,
        );
        const topK = choices[choicesOffset + 2 * r];
        const u = (choices[choicesOffset + 2 * r + 1] >>> 0) / TWO_32;
        const at = logitsOffset + r * ldLogits;
        tokens[tokensOffset + r] = sample(logits, at, cols, { temperature, topP, minP, topK, u });
      }
    },
  },
};

function sample(logits: Float32Array, at: number, cols: number, settings: Settings): number {
  const best = firstLargest(logits, at, cols);
  if (best === NONE || settings.temperature === 0) return best;
  const weights = weightsOf(logits, at, cols, logits[at + best], settings.temperature);
  let total = 0;
  for (const c of kept(weights, settings)) total += weights[c];
  let left = settings.u * total;
  let drawn = best;
  for (const c of kept(weights, settings)) {
    drawn = c;
    left -= weights[c];
    if (left < 0) break;
  }
  return drawn;
}

function firstLargest(logits: Float32Array, at: number, cols: number): number {
  let best = NONE;
  let largest = Number.NEGATIVE_INFINITY;
  for (let c = 0; c < cols; c++) {
    if (logits[at + c] > largest) {
      largest = logits[at + c];
      best = c;
    }
  }
  return best;
}

function weightsOf(
  logits: Float32Array,
  at: number,
  cols: number,
  largest: number,
  temperature: number,
): Float32Array {
  return Float32Array.from({ length: cols }, (_, c) => {
    const logit = logits[at + c];
    // Infinity - Infinity would be NaN.
    return logit === largest ? 1 : Math.exp((logit - largest) / temperature);
  });
}

/** The columns that stay, in ascending order. */
function kept(weights: Float32Array, { topK, topP, minP }: Settings): number[] {
  const all = Array.from(weights.keys()).filter((c) => weights[c] > 0);
  if (topK < 1 && topP >= 1) return all.filter((c) => weights[c] >= minP);
  let order = all.sort((a, b) => weights[b] - weights[a] || a - b);
  if (topK >= 1) order = order.slice(0, topK);
  if (topP < 1) {
    let missing = topP * order.reduce((sum, c) => sum + weights[c], 0);
    const end = order.findIndex((c) => {
      missing -= weights[c];
      return missing <= 0;
    });
    // Rounding may leave some missing after the last.
    if (end >= 0) order = order.slice(0, end + 1);
  }
  return order.filter((c) => weights[c] >= minP).sort((a, b) => a - b);
}
