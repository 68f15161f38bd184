import { type ErrorCode, SgemoeError } from '../../base/errors';

export type ProblemType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'rate_limit_error'
  | 'server_error';

/** The form of field names. A name of another form may be a text in the wrong place and isn't logged. */
const NAME = /^[\w.[\]-]{1,64}$/;

/** An error for the client, in OpenAI's shape. */
export class Problem extends Error {
  /**
   * @param param the wrong field. @param code for programs.
   * @param logMessage replaces, in the log, a message that quotes the request's content.
   * @param retryAfterSeconds when to try again, where it is known.
   */
  constructor(
    readonly status: number,
    message: string,
    readonly param: string | null = null,
    readonly code: string | null = null,
    private readonly logMessage: string = message,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
    this.name = 'Problem';
  }

  /** The log entry: what was wrong and where, without anything of a prompt. */
  get logEntry(): object {
    const { logMessage: message, type, param, code } = this;
    return { message, type, param: param === null || NAME.test(param) ? param : '(another name)', code };
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

/** A path that has a route for other methods. */
export class MethodProblem extends Problem {
  constructor(readonly allowed: readonly string[]) {
    super(405, `This path takes ${allowed.join(', ')} only.`, null, 'method_not_allowed');
  }
}

/** A request whose field `param` is wrong. */
export function badRequest(
  message: string,
  param: string | null = null,
  code: string | null = null,
  logMessage: string = message,
): Problem {
  return new Problem(400, message, param, code, logMessage);
}

const STATUS: Partial<Record<ErrorCode, readonly [status: number, code: string]>> = {
  SGEMOE_ADAPTER_NOT_FOUND: [404, 'model_not_found'],
  SGEMOE_QUEUE_FULL: [429, 'queue_full'],
  SGEMOE_ENGINE_CLOSED: [503, 'shutting_down'],
  SGEMOE_CONTEXT_FULL: [400, 'context_length_exceeded'],
  SGEMOE_CHAT_TEMPLATE: [400, 'chat_template'],
  SGEMOE_CONSTRAINT_INVALID: [400, 'constraint_invalid'],
  SGEMOE_CONSTRAINT_LIMIT: [400, 'constraint_limit'],
  SGEMOE_CONSTRAINT_STUCK: [400, 'constraint_stuck'],
  SGEMOE_UNKNOWN_CHARACTER: [400, 'unknown_character'],
  SGEMOE_TOKENIZER_INVALID: [400, 'no_tokenizer'],
  SGEMOE_TEXT_LIMIT: [400, 'text_limit'],
  SGEMOE_TIMEOUT: [504, 'timeout'],
  SGEMOE_WORKER_DIED: [500, 'worker_died'],
  SGEMOE_RANKS_ABORTED: [503, 'ranks_lost'],
  SGEMOE_RANKS_TIMEOUT: [503, 'ranks_lost'],
  SGEMOE_RANKS_MISMATCH: [503, 'ranks_lost'],
  SGEMOE_MPI_FAILED: [503, 'ranks_lost'],
};

/** Log messages of codes whose own sentences may quote the request. */
const LOG_MESSAGE: Partial<Record<ErrorCode, string>> = {
  SGEMOE_CHAT_TEMPLATE: 'The chat template refuses the messages.',
  SGEMOE_CONSTRAINT_INVALID: 'The constraint can not be used.',
  SGEMOE_UNKNOWN_CHARACTER: 'The text has a character that the tokenizer does not know.',
};

/**
 * Turns an error into a problem for the client. An unexpected error keeps its message to the log, since it may reveal
 * internals.
 */
export function toProblem(error: unknown, isClientGone = false): Problem {
  if (isClientGone) return new Problem(499, 'The client is gone.');
  if (error instanceof Problem) return error;
  if (error instanceof SgemoeError) {
    const [status, code] = STATUS[error.code] ?? [];
    if (status !== undefined) return new Problem(status, error.message, null, code, LOG_MESSAGE[error.code]);
  }
  // The library's own message about a value, such as an id outside the vocabulary.
  if (error instanceof RangeError && error.message.includes(' must ')) {
    return badRequest(error.message, null, null, `${error.message.replace(/, got [\s\S]*$/, '')}.`);
  }
  const { statusCode } = (error ?? {}) as { statusCode?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    // The error comes from the server that the routes are mounted in.
    return new Problem(statusCode, 'The request can not be read.');
  }
  return new Problem(500, 'The server failed to answer; its log says why.', null, 'internal_error');
}
