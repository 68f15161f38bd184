import type { Kernels } from '../backend/kernels';
import { formatBytes } from '../base/formatBytes';
import { type StorageType, storedBytes } from '../base/storageTypes';
import { isRotated } from '../checkpoint/ropePairs';
import { MATRIX_TYPES, type MatrixTypes, matrixTypeOf } from '../config/matrixTypes';
import type { ModelSource, SourceSpan } from '../hf/source';
import type { ByteRange } from '../memory/fileBytes';
import { quantized } from '../memory/operations/stored';
import type { Parameter, ParameterStore } from '../memory/parameters';
import { type BytesPlace, type StoredPart, type StoredTables, sharedBytes } from '../memory/storedTables';
import type { Table } from '../memory/weight';
import { notFiniteNote } from './notFinite';

/**
 * The type of a model's matrices. 'float32': all of them, in memory of the model's own, which can be trained. 'stored': as
 * the files have them; what they have in 16 bits or in blocks stays there, mapped. Others: the matrices are rounded to them
 * while they are read, one after the other; rows that aren't whole blocks take the type that llama.cpp takes.
 * Routers, norms and biases are float32 always.
 */
export type ModelDtype = 'stored' | MatrixTypes;
export const MODEL_DTYPES: readonly ModelDtype[] = ['stored', ...MATRIX_TYPES];

/** @throws TypeError or RangeError that begins with `what`. */
export function checkModelDtype(
  what: string,
  dtype: unknown,
  among: readonly ModelDtype[] = MODEL_DTYPES,
): asserts dtype is ModelDtype {
  if (typeof dtype !== 'string') throw new TypeError(`${what} must be a string, got ${String(dtype)}`);
  if ((among as readonly string[]).includes(dtype)) return;
  throw new RangeError(`${what} must be ${among.join(', ')}, got ${dtype}`);
}

/** How one parameter of a stored table comes into being. */
interface PlannedMatrix {
  readonly parameter: Parameter;
  readonly type: StorageType;
  /** Where the parameter lies with this type; null if it has to be converted. */
  readonly span: SourceSpan | null;
}

/** Rows [at, at + rows) of all matrices of a table. */
interface PlannedPart {
  readonly at: number;
  readonly rows: number;
  /** The parts, in the order of the table's matrices. */
  readonly matrices: readonly PlannedMatrix[];
}

/** What becomes of each of a store's `tables`: its parts, or null for float32 in the store. */
export interface StoragePlan {
  readonly tables: readonly (readonly PlannedPart[] | null)[];
  /** Whether the model's queries and keys pair halves (ropePairs.ts), since a file's are used where they lie and do. */
  readonly halves: boolean;
  /** Bytes in memory of what is converted. */
  readonly residentBytes: number;
  /** Bytes that are used where they lie. */
  readonly mappedBytes: number;
}

/** Decides which tables are kept as they are stored. */
export function planStorage(store: ParameterStore, source: ModelSource, dtype: ModelDtype): StoragePlan {
  const ofTable = new Map<unknown, Parameter[]>();
  for (const parameter of store.parameters) {
    const found = ofTable.get(parameter.weight);
    if (found) found.push(parameter);
    else ofTable.set(parameter.weight, [parameter]);
  }
  const isFloat = dtype === 'float32';
  const tables = store.tables.map((table) =>
    isFloat ? null : planTable(table, ofTable.get(table) ?? [], source, dtype),
  );
  const all = tables.flatMap((parts) => parts?.flatMap(({ matrices }) => matrices) ?? []);
  let [residentBytes, mappedBytes] = [0, 0];
  for (const { parameter, type, span } of all) {
    const bytes = storedBytes(type, parameter.size);
    if (span !== null) mappedBytes += bytes;
    else residentBytes += bytes;
  }
  return { tables, halves: all.some(({ span }) => span?.halves), residentBytes, mappedBytes };
}

function planTable(
  { rows, cols }: Table,
  parameters: readonly Parameter[],
  source: ModelSource,
  dtype: ModelDtype,
): PlannedPart[] | null {
  const byRow = new Map<number, PlannedMatrix[]>();
  // A table's matrices lie one behind the other, and parameters are whole rows of one of them.
  for (const parameter of [...parameters].sort((a, b) => a.start - b.start)) {
    const at = (parameter.start / cols) % rows;
    const planned = planMatrix(parameter, cols, source, dtype);
    byRow.set(at, [...(byRow.get(at) ?? []), planned]);
  }
  const parts = Array.from(byRow, ([at, matrices]) => {
    return { at, rows: matrices[0].parameter.size / cols, matrices: ofOneType(matrices) };
  });
  const types = parts.map(({ matrices }) => matrices[0].type);
  return types.every((type) => type === 'float32') ? null : parts;
}

function planMatrix(
  parameter: Parameter,
  cols: number,
  source: ModelSource,
  dtype: ModelDtype,
): PlannedMatrix {
  const span = source.span(parameter);
  const type =
    dtype === 'stored' ? (span?.type ?? 'float32') : matrixTypeOf(dtype, parameter.name, cols, source.config);
  return { parameter, type, span: span?.type === type ? span : null };
}

/** The matrices of a kernel have one type. If files store experts in several, that is float32, which is exact. */
function ofOneType(matrices: readonly PlannedMatrix[]): readonly PlannedMatrix[] {
  const { type } = matrices[0];
  if (matrices.every((each) => each.type === type)) return matrices;
  return matrices.map(({ parameter, span }) => {
    return { parameter, type: 'float32', span: span?.type === 'float32' ? span : null };
  });
}

/**
 * Reads all weights of a model from its source, after the store has allocated. Returns sentences about float32 weights that
 * aren't finite (what stays in its file isn't looked at) and about mapped ones that the memory has no room for.
 * @param whole has all parameters of the source's model, where the store has a part of them.
 * @throws SgemoeError as `FileBytes.open` and the source's `checkAll` and `read`.
 */
export async function readWeights(
  store: ParameterStore,
  source: ModelSource,
  plan: StoragePlan,
  whole: Pick<ParameterStore, 'parameters' | 'buffers'> = store,
): Promise<string[]> {
  const hasBuffers = await source.checkAll(whole.parameters, whole.buffers);
  const all = [...store.parameters, ...(hasBuffers ? store.buffers : [])];
  const floats = all.filter(({ isStored }) => !isStored);
  for (const tensor of floats) await source.read(tensor, 0, tensor.data, plan.halves);
  if (store.isStored) store.attachStored(await loadStored(plan, source, store));
  const notes = [notFiniteNote(store.kernels, floats), tooLargeNote(store)];
  return notes.filter((note) => note !== null);
}

function tooLargeNote({ allBytes, kernels }: ParameterStore): string | null {
  const { bytes } = kernels.memory.available();
  if (allBytes.mapped <= bytes) return null;
  const figures = `${formatBytes(allBytes.mapped)} are mapped from files, and there is room for ${formatBytes(bytes)}`;
  return `The model is larger than the memory: ${figures}. What doesn't fit is read from the disk again and again.`;
}

/** Maps and converts what a plan says. @throws SgemoeError as `FileBytes.open` and the source's `read`. */
async function loadStored(
  plan: StoragePlan,
  source: ModelSource,
  store: ParameterStore,
): Promise<StoredTables> {
  const files = new FileList();
  const tables: (StoredPart[] | null)[] = [];
  for (const parts of plan.tables) {
    const loaded: StoredPart[] = [];
    for (const { at, rows, matrices } of parts ?? []) {
      const places: BytesPlace[] = [];
      for (const { parameter, type, span } of matrices) {
        if (span !== null) places.push(files.add(span));
        else places.push(await converted(parameter, type, source, store.kernels, plan.halves));
      }
      loaded.push({ at, rows, type: matrices[0].type, matrices: places });
    }
    tables.push(parts === null ? null : loaded);
  }
  return { files: files.all, tables, halves: plan.halves };
}

/** The ranges of each file that are used where they lie. */
class FileList {
  readonly all: { file: SourceSpan['file']; ranges: ByteRange[]; read: null }[] = [];
  readonly #indices = new Map<string, number>();

  add({ file, offset, bytes }: SourceSpan): { file: number; range: number } {
    let index = this.#indices.get(file.path);
    if (index === undefined) {
      index = this.all.push({ file, ranges: [], read: null }) - 1;
      this.#indices.set(file.path, index);
    }
    return { file: index, range: this.all[index].ranges.push({ offset, bytes }) - 1 };
  }
}

/** About so many numbers are converted at a time. */
const CHUNK = 2 ** 20;

/** A parameter rounded to `type`, in memory that threads share. */
async function converted(
  parameter: Parameter,
  type: StorageType,
  source: ModelSource,
  kernels: Kernels,
  halves: boolean,
): Promise<Uint8Array> {
  const bytes = sharedBytes(storedBytes(type, parameter.size));
  let at = 0;
  for await (const chunk of roundedChunks(parameter, type, source, kernels, halves)) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** The bytes of a parameter rounded to `type`, some rows at a time; a new array each time. @param halves as in `ModelSource.read`. */
export async function* roundedChunks(
  parameter: Parameter,
  type: StorageType,
  source: ModelSource,
  kernels: Kernels,
  halves = false,
): AsyncGenerator<Uint8Array> {
  const cols = parameter.shape[parameter.shape.length - 1];
  const rows = parameter.size / cols;
  // Rows are read as whole heads, since `read` reorders rows within a head.
  const unit = isRotated(parameter.name) ? source.config.headDim : 1;
  const step = Math.max(1, Math.floor(CHUNK / cols / unit)) * unit;
  const numbers = new Float32Array(Math.min(step, rows) * cols);
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const chunk = numbers.subarray(0, count * cols);
    await source.read(parameter, row * cols, chunk, halves);
    yield quantized(kernels, type, count, cols, chunk);
  }
}
