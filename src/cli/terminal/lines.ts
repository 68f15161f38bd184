import type { CliIo } from './io';

/** Reads a stream line by line; whoever waits for a line can be told to stop waiting. */
export class LineReader {
  readonly #stream: CliIo['stdin'];
  readonly #lines: string[] = [];
  readonly #decoder = new TextDecoder();
  #rest = '';
  #ended = false;
  #failure: { error: unknown } | null = null;
  #wake: () => void = () => {};

  constructor(stream: CliIo['stdin']) {
    this.#stream = stream;
    void this.#read();
  }

  /** The next line without its end; null after the last one, and once `close` is called. @throws the stream's error. */
  async next(): Promise<string | null> {
    while (this.#lines.length === 0) {
      if (this.#failure !== null) throw this.#failure.error;
      if (this.#ended) return null;
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    return this.#lines.shift()!;
  }

  /** Stops reading, so that the stream no longer keeps the process alive. */
  close(): void {
    this.#lines.length = 0;
    this.#end();
    this.#stream.destroy?.();
  }

  async #read(): Promise<void> {
    try {
      for await (const chunk of this.#stream) {
        if (this.#ended) return;
        this.#take(typeof chunk === 'string' ? chunk : this.#decoder.decode(chunk, { stream: true }));
      }
      if (this.#rest !== '') this.#lines.push(this.#rest);
    } catch (error) {
      // A stream that is destroyed while it is read fails.
      if (!this.#ended) this.#failure = { error };
    }
    this.#end();
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    this.#lines.push(...lines.map((line) => line.replace(/\r$/, '')));
    this.#wake();
  }

  #end(): void {
    this.#ended = true;
    this.#wake();
  }
}
