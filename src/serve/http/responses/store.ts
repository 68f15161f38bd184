import type { ChatMessage } from '../../../text/chatMessage';

/** A response as it was answered, and the conversation up to its end, without instructions. */
export interface StoredResponse {
  response: { readonly id: string };
  /** The key that made it, to which it belongs; undefined where the server has no keys. */
  owner: string | undefined;
  messages: readonly ChatMessage[];
}

/** Keeps responses in memory, up to a number of them and of the bytes of their JSON; the one that was used the longest ago goes. */
export class ResponseStore {
  readonly #stored = new Map<string, StoredResponse & { bytes: number }>();
  #bytes = 0;

  constructor(
    private readonly most: number,
    private readonly mostBytes: number,
  ) {}

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#stored.size;
  }

  add(stored: StoredResponse): void {
    const bytes = Buffer.byteLength(JSON.stringify(stored));
    this.#stored.set(stored.response.id, { ...stored, bytes });
    this.#bytes += bytes;
    for (const id of this.#stored.keys()) {
      if (this.count <= this.most && this.#bytes <= this.mostBytes) return;
      this.#forget(id);
    }
  }

  get(id: string, owner: string | undefined): StoredResponse | undefined {
    const found = this.#stored.get(id);
    if (found === undefined || found.owner !== owner) return undefined;
    // The last used one comes last.
    this.#stored.delete(id);
    this.#stored.set(id, found);
    return found;
  }

  /** Returns whether it was there. */
  delete(id: string, owner: string | undefined): boolean {
    return this.get(id, owner) !== undefined && this.#forget(id);
  }

  #forget(id: string): boolean {
    this.#bytes -= this.#stored.get(id)!.bytes;
    return this.#stored.delete(id);
  }
}
