import { setTimeout as sleep } from 'node:timers/promises';
import { SgemoeError } from '../../base/errors';
import { packageVersion } from '../../base/version';
import type { HubSettings } from './hubOptions';

/** Tries of a request that brings nothing new, and the pause after the first, which doubles each time. */
const TRIES = 5;
const FIRST_PAUSE_MS = 500;
/** The longest pause that a server may ask for. */
const LONGEST_PAUSE_MS = 60_000;
const REDIRECTS = 10;
const REDIRECT_STATUSES = [301, 302, 303, 307, 308];
/** Answers that may be others a moment later. */
const TEMPORARY_STATUSES = [408, 425, 429, 500, 502, 503, 504];
/** Limit of an answer that is read whole. A list of 10,000 files has about 3 MB. */
const MAX_JSON_BYTES = 2 ** 26;

/** A failure that another try may not meet. */
export class TemporaryFailure extends Error {
  /** @param pauseMs milliseconds to wait, where the server says so. */
  constructor(
    message: string,
    readonly pauseMs?: number,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** An answer that another try would get again. */
export class RefusedRequest extends Error {
  constructor(
    readonly status: number,
    /** The hub's word for the reason, such as 'GatedRepo'; '' without one. */
    readonly reason: string,
    /** The hub's sentence; '' without one. */
    readonly explanation: string,
  ) {
    super(`it answers ${status}${explanation && `: ${explanation}`}`);
  }
}

/**
 * Runs a job again while it fails for a moment. `progressed`, which the job may call, says that it got further: only tries
 * without progress count.
 * @throws SgemoeError SGEMOE_HUB_UNREACHABLE after the last try, the signal's reason, or what the job throws.
 */
export async function retrying<T>(
  { endpoint, signal }: Pick<HubSettings, 'endpoint' | 'signal'>,
  job: (progressed: () => void) => Promise<T>,
  tries = TRIES,
): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await job(() => {
        failures = 0;
      });
    } catch (cause) {
      signal?.throwIfAborted();
      if (!(cause instanceof TemporaryFailure)) throw cause;
      failures++;
      if (failures === tries) {
        const what = `${endpoint} can't be reached, after ${tries} tries: ${cause.message}.`;
        throw new SgemoeError('SGEMOE_HUB_UNREACHABLE', what, { cause });
      }
      const pauseMs = cause.pauseMs ?? FIRST_PAUSE_MS * 2 ** (failures - 1) * (1 + Math.random() / 4);
      await sleep(pauseMs, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

/** An answer whose body is read piece by piece, or thrown away. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  chunks(): AsyncGenerator<Uint8Array, void>;
  discard(): Promise<void>;
}

export class HubRequests {
  readonly #settings: HubSettings;
  readonly #origin: string;

  constructor(settings: HubSettings) {
    this.#settings = settings;
    this.#origin = new URL(settings.endpoint).origin;
  }

  /** The JSON value at a path of the hub. @throws as `send` and `retrying`. */
  json(path: string, tries?: number): Promise<unknown> {
    const job = async () => {
      const parts: Uint8Array[] = [];
      let bytes = 0;
      for await (const chunk of (await this.send('GET', path)).chunks()) {
        bytes += chunk.length;
        if (bytes > MAX_JSON_BYTES) break;
        parts.push(chunk);
      }
      try {
        return JSON.parse(Buffer.concat(parts).toString('utf8'));
      } catch (cause) {
        const what = `${this.#settings.endpoint} doesn't answer as a hub does: no JSON at ${path}.`;
        throw new SgemoeError('SGEMOE_HUB_UNREACHABLE', what, { cause });
      }
    };
    return retrying(this.#settings, job, tries);
  }

  /**
   * Makes one request and follows its redirects. The token goes to the hub's own origin only. `stopAtOthers` ends at a redirect
   * to another host, as it has the headers that describe a file.
   * @throws TemporaryFailure, RefusedRequest, or the signal's reason.
   */
  async send(
    method: 'GET' | 'HEAD',
    path: string,
    headers: Record<string, string> = {},
    stopAtOthers = false,
  ): Promise<Answer> {
    let url = new URL(this.#settings.endpoint + path);
    for (let redirects = 0; redirects <= REDIRECTS; redirects++) {
      const answer = await this.#ask(method, url, headers);
      if (!REDIRECT_STATUSES.includes(answer.status)) return answer;
      const next = nextUrl(url, answer.headers.get('location'));
      if (stopAtOthers && next.origin !== this.#origin) return answer;
      await answer.discard();
      url = next;
    }
    throw new RefusedRequest(310, '', `more than ${REDIRECTS} redirects`);
  }

  async #ask(method: string, url: URL, headers: Record<string, string>): Promise<Answer> {
    const { token, stallTimeoutMs, signal } = this.#settings;
    const stalled = new AbortController();
    const seconds = stallTimeoutMs / 1000;
    const timer = setTimeout(
      () => stalled.abort(new TemporaryFailure(`nothing arrived for ${seconds} seconds`)),
      stallTimeoutMs,
    );
    const sent: Record<string, string> = {
      // A compressed file could be neither counted nor resumed.
      'accept-encoding': 'identity',
      'user-agent': `sgemoe/${packageVersion()}`,
      ...headers,
    };
    if (token !== null && url.origin === this.#origin) sent.authorization = `Bearer ${token}`;
    const either = signal ? AbortSignal.any([signal, stalled.signal]) : stalled.signal;
    const response = await fetch(url, {
      method,
      headers: sent,
      redirect: 'manual',
      signal: either,
    }).catch((error: unknown) => {
      clearTimeout(timer);
      throw temporary(error, url);
    });
    const answer = answerOf(response, timer, url);
    if (response.ok || REDIRECT_STATUSES.includes(response.status)) return answer;
    await answer.discard();
    throw refusalOf(response);
  }
}

/** Each piece that arrives restarts the clock. */
function answerOf(response: Response, timer: NodeJS.Timeout, url: URL): Answer {
  const { status, headers, body } = response;
  // The types of browsers, against which this is checked too, don't know that a body can be iterated.
  const pieces = body as unknown as AsyncIterable<Uint8Array> | null;
  return {
    status,
    headers,
    async *chunks() {
      try {
        for await (const chunk of pieces ?? []) {
          timer.refresh();
          yield chunk;
        }
      } catch (error) {
        throw temporary(error, url);
      } finally {
        clearTimeout(timer);
      }
    },
    async discard() {
      clearTimeout(timer);
      await body?.cancel().catch(() => undefined);
    },
  };
}

/** @throws RefusedRequest for a redirect that no browser would follow, or that gives up encryption. */
function nextUrl(from: URL, location: string | null): URL {
  if (location === null || !URL.canParse(location, from.href)) {
    throw new RefusedRequest(502, '', 'a redirect to nowhere');
  }
  const to = new URL(location, from);
  if (to.protocol === 'https:' || (to.protocol === 'http:' && from.protocol === 'http:')) return to;
  throw new RefusedRequest(502, '', `a redirect from ${from.protocol} to ${to.protocol}`);
}

/** fetch hides the system's error in `cause`. */
function temporary(error: unknown, { host }: URL): unknown {
  if (!(error instanceof Error) || error instanceof TemporaryFailure || error.name === 'AbortError')
    return error;
  const { cause } = error;
  const reason =
    cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : error.message;
  return new TemporaryFailure(`${host}: ${reason}`, undefined, { cause: error });
}

function refusalOf({ status, headers }: Response): Error {
  const text = (name: string) => (headers.get(name) ?? '').replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200);
  const explanation = text('x-error-message');
  if (!TEMPORARY_STATUSES.includes(status))
    return new RefusedRequest(status, text('x-error-code'), explanation);
  return new TemporaryFailure(`it answers ${status}${explanation && `: ${explanation}`}`, pauseOf(headers));
}

/** Retry-After in seconds or as a date; undefined without one. */
function pauseOf(headers: Headers): number | undefined {
  const text = headers.get('retry-after');
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LONGEST_PAUSE_MS);
}
