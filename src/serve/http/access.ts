/** Access checks: API keys, host names, origins of pages. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Headers } from './exchange';
import { Problem } from './problem';

/** A check of a request's headers. @throws Problem for a request that is refused. */
export type AccessCheck = (headers: IncomingHttpHeaders) => void;

/** @returns a check whose time doesn't depend on how much of a key is right. It returns the key's place among the keys. */
export function keyCheck(keys: readonly string[]): (headers: IncomingHttpHeaders) => number {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const known = keys.map(digest);
  return ({ authorization }) => {
    const given = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    const own = digest(given ?? '');
    const matches = known.map((key) => timingSafeEqual(key, own));
    if (given !== undefined && matches.includes(true)) return matches.indexOf(true);
    const message =
      given === undefined
        ? 'An API key is needed: send the header "authorization: Bearer <key>".'
        : 'The API key is not known here.';
    throw new Problem(401, message, null, 'invalid_api_key');
  };
}

/**
 * @returns a check that the host header has one of these names. It stops DNS rebinding: an attacker makes the name of a
 * site point at this machine, and that site's page then sends its own name.
 */
export function hostCheck(names: readonly string[]): AccessCheck {
  const allowed = new Set(names.map((name) => name.toLowerCase()));
  return ({ host = '' }) => {
    if (allowed.has(host.replace(/:\d*$/, '').toLowerCase())) return;
    throw new Problem(403, 'The host header names another host than this server answers for.', null, 'host');
  };
}

/**
 * Refuses a request that names two hosts, in two host headers or in its target, since a proxy in front may have checked the
 * other one. @throws Problem 400
 */
export function requireOneHost({ rawHeaders, headers, url = '/' }: RequestTarget): void {
  const isHost = (name: string, i: number) => i % 2 === 0 && name.toLowerCase() === 'host';
  if (rawHeaders.filter(isHost).length > 1) {
    throw new Problem(400, 'There must be one host header, not several.', null, 'host');
  }
  const named = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1].toLowerCase();
  if (named === undefined || named === headers.host?.toLowerCase()) return;
  throw new Problem(400, 'The target of the request names another host than its host header.', null, 'host');
}

/** The part of Node's request that names its host. */
export type RequestTarget = Pick<IncomingMessage, 'rawHeaders' | 'headers' | 'url'>;

/** The CORS headers that let pages of these origins read the answers; '*' means all. */
export class CrossOrigin {
  constructor(private readonly origins: readonly string[]) {}

  /** Whether pages of any origin may read them. */
  get any(): boolean {
    return this.origins.length > 0;
  }

  /** Headers of each answer. */
  headersFor(request: IncomingHttpHeaders): Headers {
    if (!this.any) return {};
    const origin = this.#allowed(request);
    return origin === null
      ? { vary: 'origin' }
      : { vary: 'origin', 'access-control-allow-origin': origin, 'access-control-expose-headers': EXPOSED };
  }

  /** Headers of the answer to a preflight. @throws Problem for an origin that is not named. */
  preflight(request: IncomingHttpHeaders): Headers {
    if (this.#allowed(request) === null) {
      throw new Problem(403, 'Pages of this origin may not read the answers.', null, 'origin');
    }
    return {
      'access-control-allow-methods': 'GET, POST, DELETE',
      'access-control-allow-headers': String(request['access-control-request-headers'] ?? 'content-type'),
      'access-control-max-age': '600',
    };
  }

  #allowed({ origin }: IncomingHttpHeaders): string | null {
    if (origin === undefined) return null;
    if (this.origins.includes('*')) return '*';
    return this.origins.includes(origin) ? origin : null;
  }
}

/** Response headers that pages may read, beside those that are always readable. */
const EXPOSED = 'x-request-id, retry-after';
