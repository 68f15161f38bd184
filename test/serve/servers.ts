import type { EngineOptions, ServeOptions } from '../../src';
import { built } from '../helpers/built';
import { byteModel, openEngine } from './engines';

/** A server on a free port; closing it closes its engine, too. */
export async function openServer(options: Partial<ServeOptions> = {}, engineOptions: EngineOptions = {}) {
  const engine = options.engine ?? (await openEngine({ maxBatch: 4, ...engineOptions }));
  const server = await built.serve({ port: 0, ...options, engine });
  return {
    engine,
    url: server.url,
    async close() {
      await engine.close();
      await server.close({ graceMs: 0 });
    },
  };
}

/** An engine whose completions take long enough to be interrupted: a bigger model with a longer context. */
export function slowEngine(options: EngineOptions = {}): Promise<typeof built.Engine.prototype> {
  const model = byteModel({ hiddenDim: 64, ffnDim: 256, nLayers: 3, maxSeqLen: 4096 });
  return built.Engine.create(model, new built.ByteTokenizer(), { maxBatch: 4, ...options });
}

export function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: text,
  });
}

export interface ApiError {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export async function errorOf(response: Response): Promise<ApiError['error']> {
  return ((await response.json()) as ApiError).error;
}

/** Waits until `holds` returns true. */
export async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((done) => setTimeout(done, 5));
}
