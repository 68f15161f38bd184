/** Things that wait, served in turn: one of each client, in the order in which the clients came; each client's own in order. */
export class Turns<T> {
  /** The client whose turn is next comes first. None is empty. */
  readonly #waiting = new Map<string, T[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(client: string, thing: T): void {
    const own = this.#waiting.get(client);
    if (own === undefined) this.#waiting.set(client, [thing]);
    else own.push(thing);
    this.#size++;
  }

  /** Removes a thing; returns whether it was there. Its client keeps its turn if it has others. */
  delete(client: string, thing: T): boolean {
    const own = this.#waiting.get(client);
    const at = own?.indexOf(thing) ?? -1;
    if (at < 0) return false;
    own!.splice(at, 1);
    if (own!.length === 0) this.#waiting.delete(client);
    this.#size--;
    return true;
  }

  /** Takes the next thing; its client's others wait until the other clients had their turn. Undefined if there is none. */
  take(): T | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [client, own] = first;
    const thing = own.shift();
    this.#waiting.delete(client);
    if (own.length > 0) this.#waiting.set(client, own);
    this.#size--;
    return thing;
  }

  /** Takes all. */
  clear(): T[] {
    const all = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    this.#size = 0;
    return all;
  }
}
