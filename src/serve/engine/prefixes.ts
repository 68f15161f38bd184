/** Number of equal ids at the beginning of two lists. */
export function commonLength(a: Int32Array, b: Int32Array): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

/** The prompts that a worker was given last, whose beginnings its cache probably holds. */
export class RecentPrompts {
  readonly #prompts: { ids: Int32Array; adapter: number | null }[] = [];

  constructor(private readonly most: number) {}

  add(ids: Int32Array, adapter: number | null): void {
    this.#prompts.push({ ids, adapter });
    if (this.#prompts.length > this.most) this.#prompts.shift();
  }

  /** Length of the longest beginning that `ids` share with one of them that was for the same adapter. */
  longest(ids: Int32Array, adapter: number | null): number {
    const same = this.#prompts.filter((each) => each.adapter === adapter);
    return same.reduce((length, each) => Math.max(length, commonLength(each.ids, ids)), 0);
  }
}
