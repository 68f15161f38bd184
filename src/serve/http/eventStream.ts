import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { StreamedAnswer } from './exchange';
import { type Problem, toProblem } from './problem';

/** The failure that ended a stream early. */
export interface StreamFailure {
  error: unknown;
  problem: Problem;
}

/**
 * Sends events at the client's pace, and stops reading them when the client has gone.
 * @param stallMs milliseconds without room for more after which the client's connection is destroyed.
 * @returns null when all events were sent, else the failure.
 */
export async function sendEvents(
  response: ServerResponse,
  headers: OutgoingHttpHeaders,
  { events, named = false }: StreamedAnswer,
  stallMs: number,
): Promise<StreamFailure | null> {
  const stream = new EventStream(response, stallMs, named);
  try {
    stream.begin(headers);
    for await (const event of events) await stream.send(event);
    await stream.done();
    return null;
  } catch (error) {
    const problem = toProblem(error, response.destroyed);
    stream.fail(problem);
    return { error, problem };
  }
}

/** Server-sent events to one client. */
class EventStream {
  constructor(
    private readonly response: ServerResponse,
    private readonly stallMs: number,
    private readonly named: boolean,
  ) {}

  begin(headers: OutgoingHttpHeaders): void {
    for (const [name, value] of Object.entries(headers))
      if (value !== undefined) this.response.setHeader(name, value);
    this.response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
    this.response.flushHeaders();
  }

  /** Settles when there is room for more. @throws when the client is gone, or too slow. */
  async send(data: object): Promise<void> {
    const name = this.named ? `event: ${(data as { type: string }).type}\n` : '';
    await this.#write(`${name}data: ${JSON.stringify(data)}\n\n`);
  }

  /** Ends a complete answer after its last event. */
  async done(): Promise<void> {
    if (!this.named) await this.#write('data: [DONE]\n\n');
    this.response.end();
  }

  /** Ends an incomplete answer with the problem, unless an event has told it or the client is gone. */
  fail(problem: object): void {
    if (!this.response.destroyed) this.response.end(this.named ? '' : `data: ${JSON.stringify(problem)}\n\n`);
  }

  async #write(data: string): Promise<void> {
    if (this.response.destroyed) throw new Error('the client is gone');
    if (this.response.write(data)) return;
    await this.#room();
  }

  #room(): Promise<void> {
    const { response } = this;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => response.destroy(), this.stallMs);
      const settle = (end: () => void) => () => {
        clearTimeout(timer);
        response.off('drain', onDrain).off('close', onClose);
        end();
      };
      const onDrain = settle(resolve);
      const onClose = settle(() => reject(new Error('the client is gone')));
      response.on('drain', onDrain).on('close', onClose);
    });
  }
}
