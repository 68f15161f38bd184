import { randomInt } from 'node:crypto';

const SEEDS = 2 ** 48 - 1;

/** A seed for a request that gives none, where answers should differ from call to call. */
export function drawSeed(): number {
  return randomInt(SEEDS);
}
