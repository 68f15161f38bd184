import { type ErrorCode, SgemoeError } from '../../base/errors';

export type ProblemType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'rate_limit_error'
  | 'server_error';

/** What a client is told instead of an answer, in OpenAI's shape. */
export class Problem extends Error {
  /** @param param the field that is wrong; @param code for programs. */
  constructor(
    readonly status: number,
    message: string,
    readonly param: string | null = null,
    readonly code: string | null = null,
  ) {
    super(message);
    this.name = 'Problem';
  }

  get type(): ProblemType {
    if (this.status === 401) return 'authentication_error';
    if (this.status === 403) return 'permission_error';
    if (this.status === 429) return 'rate_limit_error';
    return this.status < 500 ? 'invalid_request_error' : 'server_error';
  }

  toJSON(): object {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

/** A request whose field `param` is wrong. */
export function badRequest(
  message: string,
  param: string | null = null,
  code: string | null = null,
): Problem {
  return new Problem(400, message, param, code);
}

const STATUS: Partial<Record<ErrorCode, readonly [status: number, code: string]>> = {
  SGEMOE_QUEUE_FULL: [429, 'queue_full'],
  SGEMOE_ENGINE_CLOSED: [503, 'shutting_down'],
  SGEMOE_CONTEXT_FULL: [400, 'context_length_exceeded'],
  SGEMOE_CHAT_TEMPLATE: [400, 'chat_template'],
  SGEMOE_UNKNOWN_CHARACTER: [400, 'unknown_character'],
  SGEMOE_TOKENIZER_INVALID: [400, 'no_tokenizer'],
  SGEMOE_TIMEOUT: [504, 'timeout'],
  SGEMOE_WORKER_DIED: [500, 'worker_died'],
};

/** Sentences for what the HTTP framework refuses by itself, by its code. */
const FRAMEWORK: Readonly<Record<string, string>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'The body must be JSON: the content-type must be application/json.',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'The body has another length than the content-length header says.',
  FST_ERR_BAD_URL: 'The path of the request is not a valid URL.',
  FST_ERR_MAX_PARAM_LENGTH: 'The path of the request is too long.',
};

/**
 * The problem that an error is to the client. What nobody foresaw says nothing of itself: its message may tell of the
 * inside, so it belongs in the log.
 */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof SgemoeError) {
    const [status, code] = STATUS[error.code] ?? [];
    if (status !== undefined) return new Problem(status, error.message, null, code);
  }
  // The library's sentence about a value, such as an id outside the vocabulary.
  if (error instanceof RangeError && error.message.includes(' must ')) return badRequest(error.message);
  const { code, statusCode } = (error ?? {}) as { code?: unknown; statusCode?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    const known = typeof code === 'string' ? FRAMEWORK[code] : undefined;
    return new Problem(statusCode, known ?? 'The request can not be read.');
  }
  return new Problem(500, 'The server failed to answer; its log says why.', null, 'internal_error');
}
