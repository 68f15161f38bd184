/** Replaces model/expertExchange.ts in the bundle of scripts/build-web.js: a page is one process, which has all experts. */
export class ExpertExchange {
  constructor() {
    throw new TypeError('expertRanks: a page has no ranks over which experts could be divided');
  }
}
