import { ECHO_MS } from './interrupt';
import type { CliIo } from './io';

/** What signals do in a conversation: Ctrl-C ends an answer, and twice at the prompt the conversation; SIGTERM ends both. */
export class ChatControl {
  #answer: AbortController | null = null;
  #asked = false;
  #lastMs = Number.NEGATIVE_INFINITY;
  #terminated = false;

  constructor(
    private readonly io: CliIo,
    private readonly leave: () => void,
  ) {
    io.signals.on('SIGINT', this.#onInterrupt);
    io.signals.on('SIGTERM', this.#onTerminate);
  }

  /** Whether SIGTERM ended the conversation. */
  get terminated(): boolean {
    return this.#terminated;
  }

  /** Runs what a Ctrl-C ends. */
  async answering(answer: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#answer = new AbortController();
    this.#asked = false;
    try {
      await answer(this.#answer.signal);
    } finally {
      this.#answer = null;
    }
  }

  /** Stops listening. */
  release(): void {
    this.io.signals.off('SIGINT', this.#onInterrupt);
    this.io.signals.off('SIGTERM', this.#onTerminate);
  }

  #onInterrupt = (): void => {
    const now = performance.now();
    const isEcho = now - this.#lastMs < ECHO_MS;
    if (isEcho) return;
    this.#lastMs = now;
    if (this.#answer !== null) this.#answer.abort();
    else if (this.#asked) this.leave();
    else {
      this.#asked = true;
      this.io.stderr.write('\nCtrl-C again, or /exit, leaves.\n');
      if (this.io.stdin.isTTY) this.io.stderr.write('> ');
    }
  };

  #onTerminate = (): void => {
    this.#terminated = true;
    this.#answer?.abort();
    this.leave();
  };
}
