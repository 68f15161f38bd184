/**
 * Replaces model/expertExchange.ts and training/distributed/roundedSums.ts in the bundle of scripts/build-web.js: a page is one process,
 * which has all experts and sends nothing.
 */
export class ExpertExchange {
  constructor() {
    throw new TypeError('expertRanks: a page has no ranks over which experts could be divided');
  }
}

export function reduceScatterRounded() {
  throw new TypeError('commDtype: a page has no ranks that could send gradients to each other');
}
