import { formatCount } from './format';
import type { OutStream } from './io';

/** Notes that are shown; a broken file would fill the screen. */
const MOST_NOTES = 10;

/** Shows notes about rows, the first ones, and how many more there were. */
export class RowNotes {
  #count = 0;

  constructor(private readonly out: OutStream) {}

  add(note: string): void {
    if (++this.#count <= MOST_NOTES) this.out.write(`${note}\n`);
  }

  end(): void {
    const more = this.#count - MOST_NOTES;
    if (more > 0) this.out.write(`... and ${formatCount(more)} more rows like these.\n`);
  }
}
