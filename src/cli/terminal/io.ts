/** The outside world of a command: the process in `main.ts`, a stand-in in tests. */
export interface CliIo {
  readonly stdin: InStream;
  readonly stdout: OutStream;
  readonly stderr: OutStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The source of SIGINT, SIGTERM and SIGUSR1. */
  readonly signals: SignalSource;
}

export interface InStream extends AsyncIterable<Uint8Array | string> {
  readonly isTTY?: boolean | undefined;
  /** Ends a stream that somebody may be waiting for. */
  destroy?(): unknown;
}

export interface OutStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  /** Width of the terminal. */
  readonly columns?: number;
}

export interface SignalSource {
  on(name: NodeJS.Signals, listener: () => void): unknown;
  off(name: NodeJS.Signals, listener: () => void): unknown;
}

/** Exit codes, as shells and their users expect them. */
export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

/** The outside world and the exit code, which all commands share. */
export interface CliContext {
  readonly io: CliIo;
  exitCode: number;
}

/** The io of this process. */
export function processIo(): CliIo {
  const { stdin, stdout, stderr, env } = process;
  return { stdin, stdout, stderr, env, signals: process };
}
