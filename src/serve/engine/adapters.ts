import { createHash } from 'node:crypto';
import { SgemoeError } from '../../base/errors';
import type { Lora } from '../../model/lora';
import { readLora } from '../../model/loraFiles';
import type { MoETransformer } from '../../model/model';
import type { AdapterSetup } from './messages';

/** The workers, which all get and lose an adapter. */
interface AdapterWorkers {
  readonly closing: boolean;
  addAdapter(adapter: AdapterSetup): void;
  dropAdapter(id: number): void;
}

/** An adapter that an engine serves. */
export interface ServedAdapter {
  /** Its number, which no other adapter of the engine ever has: what was computed with an earlier one of its name doesn't count. */
  readonly id: number;
  /** A short text that changes with its weights. */
  readonly fingerprint: string;
  /** Requests that aren't settled. */
  requests: number;
  /** Called when the last of them is, once the adapter is removed. */
  onIdle: (() => void) | null;
}

/** The adapters of an engine by name. */
export class EngineAdapters {
  readonly #served = new Map<string, ServedAdapter>();
  /** Names whose files are being read. */
  readonly #loading = new Set<string>();
  #lastId = 0;

  constructor(
    private readonly model: MoETransformer,
    private readonly workers: AdapterWorkers,
  ) {}

  get names(): string[] {
    return [...this.#served.keys()];
  }

  /** @throws RangeError for a name that is empty or taken; SgemoeError SGEMOE_ENGINE_CLOSED; as `readLora`. */
  async add(name: string, dir: string): Promise<void> {
    if (typeof name !== 'string' || name === '')
      throw new RangeError(`addAdapter: name must be a text that is not empty, got ${String(name)}`);
    if (this.#served.has(name) || this.#loading.has(name))
      throw new RangeError(`addAdapter: name must be one that no adapter has, got '${name}'`);
    this.#loading.add(name);
    try {
      const lora = await readLora(dir, this.model);
      if (this.workers.closing) throw new SgemoeError('SGEMOE_ENGINE_CLOSED', 'The engine is closed.');
      const id = ++this.#lastId;
      this.workers.addAdapter({ id, shared: lora.share() });
      this.#served.set(name, { id, fingerprint: fingerprintOf(lora), requests: 0, onIdle: null });
    } finally {
      this.#loading.delete(name);
    }
  }

  /** Refuses new requests at once; done when the last one has ended. @throws SgemoeError SGEMOE_ADAPTER_NOT_FOUND */
  async remove(name: string): Promise<void> {
    const adapter = this.find(name);
    this.#served.delete(name);
    if (adapter.requests > 0) {
      await new Promise<void>((done) => {
        adapter.onIdle = done;
      });
    }
    this.workers.dropAdapter(adapter.id);
  }

  /** @throws SgemoeError SGEMOE_ADAPTER_NOT_FOUND */
  find(name: string): ServedAdapter {
    const found = this.#served.get(name);
    if (found !== undefined) return found;
    throw new SgemoeError('SGEMOE_ADAPTER_NOT_FOUND', `The engine has no adapter '${name}'.`);
  }

  /** Counts a request until the returned function is called. */
  use(adapter: ServedAdapter): () => void {
    adapter.requests++;
    return () => {
      adapter.requests--;
      if (adapter.requests === 0) adapter.onIdle?.();
    };
  }
}

function fingerprintOf({ options, store }: Lora): string {
  const hash = createHash('sha256').update(JSON.stringify(options));
  for (const shard of store.shards) hash.update(shard);
  return hash.digest('hex').slice(0, 12);
}
