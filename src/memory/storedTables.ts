import type { Kernels } from '../backend/kernels';
import type { StampedFile } from '../base/fileStamp';
import type { StorageType } from '../base/storageTypes';
import { type ByteRange, FileBytes } from './fileBytes';
import type { Table } from './weight';

/** Where the bytes of a matrix lie: a range of a file, or memory that threads share. */
export type BytesPlace = Uint8Array | { readonly file: number; readonly range: number };

/** Rows [at, at + rows) of each of a table's matrices. */
export interface StoredPart {
  readonly at: number;
  readonly rows: number;
  readonly type: StorageType;
  readonly matrices: readonly BytesPlace[];
}

/** The matrices of a model that are kept as they are stored, in a form for other threads. */
export interface StoredTables {
  readonly files: readonly {
    readonly file: StampedFile;
    readonly ranges: readonly ByteRange[];
    /** The bytes of the ranges if they were read instead of mapped. */
    readonly read: readonly Uint8Array[] | null;
  }[];
  /** For each of the store's `tables` its parts; null for float32. */
  readonly tables: readonly (readonly StoredPart[] | null)[];
  /** Whether the rows of all queries and keys pair halves of a head, float32 ones too; if not, neighbours. */
  readonly halves: boolean;
}

/** Bytes that can be passed to other threads. */
export function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(
    typeof SharedArrayBuffer === 'function' ? new SharedArrayBuffer(length) : new ArrayBuffer(length),
  );
}

/** Files and memory of stored tables in use. */
export interface AttachedTables {
  readonly files: readonly FileBytes[];
  /** Bytes in memory, without the mapped ones. */
  readonly residentBytes: number;
  /** The same tables for other threads. */
  readonly shared: StoredTables;
}

/**
 * Gives tables their stored parts. Each thread maps the files for itself.
 * @param all the store's `tables`. @throws SgemoeError as `FileBytes.open`.
 */
export function attachStored(
  kernels: Kernels,
  all: readonly Table[],
  { files, tables, halves }: StoredTables,
): AttachedTables {
  const opened = files.map(({ file, ranges, read }) =>
    read === null ? FileBytes.open(kernels.memory, file, ranges) : FileBytes.of(file, ranges, read),
  );
  const bytesAt = (place: BytesPlace) =>
    place instanceof Uint8Array ? place : opened[place.file].parts[place.range];
  tables.forEach((parts, i) => {
    if (parts === null) return;
    const table = all[i];
    table.stored = parts.map(({ at, rows, type, matrices }) => {
      const bytes = matrices.map(bytesAt);
      return { at, matrices: kernels.storedMatrices(type, rows, table.cols, bytes) };
    });
  });
  const read = opened.map(({ file, ranges, parts, mapped }) => ({
    file,
    ranges,
    read: mapped ? null : parts,
  }));
  return {
    files: opened,
    residentBytes: residentBytes(opened, tables),
    shared: { files: read, tables, halves },
  };
}

function residentBytes(files: readonly FileBytes[], tables: StoredTables['tables']): number {
  let bytes = 0;
  for (const file of files) if (!file.mapped) bytes += file.byteLength;
  for (const { matrices } of tables.flatMap((parts) => parts ?? [])) {
    for (const place of matrices) if (place instanceof Uint8Array) bytes += place.length;
  }
  return bytes;
}
