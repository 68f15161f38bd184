/**
 * How often a test does what it does at random, such as killing a process: `n` times, and SGEMOE_TEST_SCALE times as often
 * where that is set, as in .ci/full.
 */
export function scaled(n: number): number {
  return n * Number(process.env.SGEMOE_TEST_SCALE ?? 1);
}
