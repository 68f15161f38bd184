import { SgemoeError } from '../../base/errors';
import type { Tokenizer } from '../tokenizer';
import type { Splits } from './packedDataset';
import { RowError } from './rowChecks';
import { type DataRow, readRows } from './rows';

/** What reading needs of a data set's options. */
interface ReadOptions {
  readonly tokenizer: Tokenizer;
  readonly validation?: readonly string[] | undefined;
  readonly validationFraction?: number | undefined;
  readonly onNote?: ((note: string) => void) | undefined;
}

/**
 * The items of files, split as the options say. A row of which `itemsOf` throws a RowError is told and left out.
 * @throws SgemoeError SGEMOE_DATA_ROWS if no row can be used.
 */
export async function readSplits<T>(
  files: readonly string[],
  options: ReadOptions,
  itemsOf: (row: DataRow) => T[],
): Promise<Splits<T>> {
  const { validation, validationFraction = 0 } = options;
  const items = await readItems(files, options, itemsOf);
  if (validation !== undefined) {
    return { train: items, validation: await readItems(validation, options, itemsOf) };
  }
  const kept = Math.min(Math.floor(items.length * validationFraction), items.length - 1);
  const border = items.length - kept;
  return { train: items.slice(0, border), validation: items.slice(border) };
}

async function readItems<T>(
  files: readonly string[],
  { tokenizer, onNote }: ReadOptions,
  itemsOf: (row: DataRow) => T[],
): Promise<T[]> {
  if (files.length === 0) throw new RangeError('paths must name at least one file, got none');
  const items: T[] = [];
  let rows = 0;
  let why = 'it has no rows';
  for (const file of files) {
    for (const row of await readRows(file)) {
      rows++;
      try {
        items.push(...itemsOf(row));
      } catch (error) {
        const isOfRow =
          error instanceof RowError || (tokenizer.hasChatTemplate && error instanceof SgemoeError);
        if (!isOfRow) throw error;
        why = `${row.place}: ${(error as Error).message}`;
        onNote?.(`${why}; left out.`);
      }
    }
  }
  if (items.length > 0) return items;
  const message = `None of the ${rows} rows of ${files.join(', ')} can be used; ${why}`;
  throw new SgemoeError('SGEMOE_DATA_ROWS', message);
}
