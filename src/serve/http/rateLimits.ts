import { Problem } from './problem';

/** Whose request it is. */
export interface Caller {
  /** The name of the key; undefined where the server has no keys. */
  readonly client: string | undefined;
  /** Counts tokens that the request has used. */
  charge(tokens: number): void;
}

export interface RateLimitOptions {
  maxRequestsPerKey?: number | undefined;
  maxTokensPerMinute?: number | undefined;
}

/** What is known of a caller: the requests that it has in flight, and the tokens that it may use at once at a time. */
interface Account {
  inFlight: number;
  tokens: number;
  at: number;
}

const MINUTE_MS = 60_000;
/** Accounts beyond which those are forgotten that have nothing in flight and all their tokens. */
const MOST_ACCOUNTS = 10_000;
/** What a caller with too many requests is told, since nobody knows when one ends. */
const RETRY_SECONDS = 1;

/**
 * Limits of each caller: requests in flight, and tokens by a bucket that holds those of a minute and fills evenly. A request
 * begins while the bucket isn't empty and is charged for what it used, so the bucket may fall below zero.
 */
export class RateLimits {
  readonly #accounts = new Map<string, Account>();

  constructor(
    private readonly options: RateLimitOptions,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Lets a request in; call `leave` at its end. @throws Problem 429 */
  enter(name: string): { leave: () => void; charge: (tokens: number) => void } {
    const { maxRequestsPerKey = Number.POSITIVE_INFINITY } = this.options;
    const account = this.#read(name);
    if (account.inFlight >= maxRequestsPerKey) {
      throw limited(`There are ${account.inFlight} requests of this key or address already.`, RETRY_SECONDS);
    }
    if (account.tokens <= 0) {
      const seconds = Math.floor((-account.tokens / this.#perMinute) * 60) + 1;
      throw limited(`The tokens of this minute are used; there are more in ${seconds} s.`, seconds);
    }
    account.inFlight++;
    return {
      leave: () => {
        account.inFlight--;
      },
      charge: (tokens) => {
        this.#fill(account);
        if (Number.isFinite(account.tokens)) account.tokens -= tokens;
      },
    };
  }

  get #perMinute(): number {
    return this.options.maxTokensPerMinute ?? Number.POSITIVE_INFINITY;
  }

  #read(name: string): Account {
    let account = this.#accounts.get(name);
    if (account === undefined) {
      if (this.#accounts.size >= MOST_ACCOUNTS) this.#forget();
      account = { inFlight: 0, tokens: this.#perMinute, at: this.now() };
      this.#accounts.set(name, account);
    } else this.#fill(account);
    return account;
  }

  #fill(account: Account): void {
    const now = this.now();
    const limit = this.#perMinute;
    if (Number.isFinite(limit)) {
      account.tokens = Math.min(limit, account.tokens + (limit * (now - account.at)) / MINUTE_MS);
    }
    account.at = now;
  }

  #forget(): void {
    for (const [name, account] of this.#accounts) {
      this.#fill(account);
      if (account.inFlight === 0 && account.tokens === this.#perMinute) this.#accounts.delete(name);
    }
  }
}

function limited(message: string, retryAfterSeconds: number): Problem {
  return new Problem(429, message, null, 'rate_limit_exceeded', message, retryAfterSeconds);
}
