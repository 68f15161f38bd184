import type { FastifyReply } from 'fastify';

/** Aborts when the client has left, or has all of its answer. */
export function clientController(reply: FastifyReply): AbortController {
  const cancel = new AbortController();
  reply.raw.once('close', () => cancel.abort());
  return cancel;
}
