/** A log of JSON objects, one a line, in pino's form: levels are numbers, times are milliseconds. */
import { hostname } from 'node:os';
import type { Log } from './exchange';

export interface LogSink {
  write(line: string): unknown;
}

export const LEVELS: Readonly<Record<string, number>> = {
  trace: 10,
  debug: 20,
  info: 30,
  warn: 40,
  error: 50,
  fatal: 60,
  silent: Number.POSITIVE_INFINITY,
};

export class JsonLog implements Log {
  readonly #base = { pid: process.pid, hostname: hostname() };
  readonly #least: number;

  /**
   * @param sink receives the lines; undefined writes none.
   * @param level the lowest of LEVELS that is written.
   */
  constructor(
    private readonly sink: LogSink | undefined,
    level: string,
  ) {
    this.#least = sink === undefined ? LEVELS.silent : LEVELS[level];
  }

  info(fields: object, message: string): void {
    this.#write(LEVELS.info, fields, message);
  }

  error(fields: object, message: string): void {
    this.#write(LEVELS.error, fields, message);
  }

  #write(level: number, fields: object, msg: string): void {
    if (level < this.#least) return;
    const entry = { level, time: Date.now(), ...this.#base, ...fields, msg };
    this.sink!.write(`${JSON.stringify(entry, plain)}\n`);
  }
}

/** A JSON replacer that writes the fields of errors and large integers. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (!(value instanceof Error)) return value;
  const { name, message, stack, cause } = value;
  return { type: name, ...value, message, stack, cause };
}
