/**
 * Replaces model/expertExchange.ts and training/distributed/exchange.ts in the bundle of scripts/build-web.js: a page is one process,
 * which has all experts and sends nothing.
 */
export class ExpertExchange {
  constructor() {
    throw new TypeError('expertRanks: a page has no ranks over which experts could be divided');
  }
}

/** What one process does of a step's exchange. */
export class StepExchange {
  #store;

  constructor(store) {
    this.#store = store;
  }
  begin() {}
  complete() {}
  finish() {
    return this.#store.gradNorm();
  }
  gatherGradients() {}
  shareWeights() {}
  finishWeights() {}
}
