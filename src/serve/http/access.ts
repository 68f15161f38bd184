/** Who may ask: keys, names of this host, origins of pages. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Problem } from './problem';

/** @returns a check in a time that doesn't depend on how much of a key is right. */
export function keyCheck(keys: readonly string[]): (request: FastifyRequest) => void {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const known = keys.map(digest);
  return ({ headers }) => {
    const given = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
    const own = digest(given ?? '');
    const matches = known.filter((key) => timingSafeEqual(key, own)).length;
    if (given !== undefined && matches > 0) return;
    const message =
      given === undefined
        ? 'An API key is needed: send the header "authorization: Bearer <key>".'
        : 'The API key is not known here.';
    throw new Problem(401, message, null, 'invalid_api_key');
  };
}

/**
 * @returns a check that the request was meant for one of these names: a page of another site, whose name an attacker has
 * made to point at this machine, sends its own.
 */
export function hostCheck(names: readonly string[]): (request: FastifyRequest) => void {
  const allowed = new Set(names.map((name) => name.toLowerCase()));
  return ({ headers }) => {
    const name = (headers.host ?? '').replace(/:\d*$/, '').toLowerCase();
    if (allowed.has(name)) return;
    throw new Problem(403, 'The host header names another host than this server answers for.', null, 'host');
  };
}

/** Lets pages of these origins read the answers; '*' stands for all. Says whether it was a preflight, answered now. */
export function crossOrigin(
  origins: readonly string[],
  request: FastifyRequest,
  reply: FastifyReply,
): boolean {
  const { origin } = request.headers;
  reply.header('vary', 'origin');
  if (origin === undefined || !(origins.includes('*') || origins.includes(origin))) return false;
  reply.header('access-control-allow-origin', origins.includes('*') ? '*' : origin);
  if (request.method !== 'OPTIONS') return false;
  reply.headers({
    'access-control-allow-methods': 'GET, POST',
    'access-control-allow-headers': request.headers['access-control-request-headers'] ?? 'content-type',
    'access-control-max-age': '600',
  });
  void reply.code(204).send();
  return true;
}
