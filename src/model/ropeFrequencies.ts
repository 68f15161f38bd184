import type { RopeScaling } from '../config/ropeScaling';

/**
 * The rotary frequencies f_i = base^(-2i/D), i in [0, D/2), stretched by `scaling` (config/ropeScaling.ts has the formulas).
 */
export function ropeFrequencies(headDim: number, base: number, scaling: RopeScaling | null): number[] {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  if (scaling === null) return plain;
  const { factor } = scaling;
  if (scaling.type === 'linear') return plain.map((f) => f / factor);
  if (scaling.type === 'llama3') {
    const { lowFreqFactor: low, highFreqFactor: high, originalMaxSeqLen } = scaling;
    return plain.map((f) => {
      // Turns in the original length: originalMaxSeqLen over the wavelength.
      const turns = (originalMaxSeqLen * f) / (2 * Math.PI);
      return blend(f, factor, (turns - low) / (high - low));
    });
  }
  const { originalMaxSeqLen, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
  // The dimension whose pair turns so many times in the original length.
  const dimension = (turns: number) =>
    (headDim * Math.log(originalMaxSeqLen / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [first, last] = [dimension(betaFast), dimension(betaSlow)];
  const from = Math.max(truncate ? Math.floor(first) : first, 0);
  const to = Math.min(truncate ? Math.ceil(last) : last, headDim - 1);
  // A ramp of no length would divide by 0.
  const length = to === from ? 0.001 : to - from;
  return plain.map((f, i) => blend(f, factor, 1 - (i - from) / length));
}

/** Factor of cosines and sines. */
export function ropeAttentionFactor(scaling: RopeScaling | null): number {
  return scaling?.type === 'yarn' ? (scaling.attentionFactor ?? 1) : 1;
}

/** f for a share >= 1, f / factor for a share <= 0, a mixture between. */
function blend(f: number, factor: number, share: number): number {
  const kept = Math.min(1, Math.max(0, share));
  return (1 - kept) * (f / factor) + kept * f;
}
