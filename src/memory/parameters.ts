import { types } from 'node:util';
import type { Kernels } from '../backend/kernels';
import type { Precision } from '../base/precision';
import { requireMemory } from '../base/requireMemory';
import { type Products, roundedProducts } from './operations/matmul';
import { Parameter } from './parameter';
import { refuseStored, refuseWrite } from './readOnly';
import { type AttachedTables, attachStored, type StoredTables } from './storedTables';
import {
  chooseParts,
  gradientRanges,
  Places,
  padded,
  type Stretch,
  stretchesOf,
  type WeightRange,
} from './trainedParts';
import { Bias, type Init, Matrix, Table, Weight, type WeightKind } from './weight';
import { floatBytes } from './workspace';

export { Parameter } from './parameter';
export type { Stretch, WeightRange } from './trainedParts';

/** The longest buffer. Larger models get several, since V8 and BLAS work well below 2^31 elements. */
const MAX_SHARD_ELEMENTS = 2 ** 31;

export interface StoreOptions {
  /** The longest buffer, in elements. Default 2^31. */
  maxShardElements?: number | undefined;
  /** Called with every name and shape before anything is allocated; an error that it throws ends the construction. */
  onExpose?: ((name: string, shape: readonly number[]) => void) | undefined;
  /** The memory of another store with the same weights and buffers, to use instead of new memory. */
  shared?: Pick<ParameterStore, 'shards' | 'bufferData'> | undefined;
}

/**
 * Holds all weights of a model in flat buffers on SharedArrayBuffers, in the order they were added, each padded to 64
 * bytes. Gradients and optimizer moments mirror the buffers. So norm, clipping and AdamW are one kernel call for each
 * buffer, and worker threads share weights without copying. The padding is 0 and stays 0.
 */
export class ParameterStore {
  readonly parameters: Parameter[] = [];
  /**
   * Tensors of the model that aren't parameters (PyTorch's buffers). They start at zero and have no gradient, decay or
   * moments.
   */
  readonly buffers: Parameter[] = [];
  /** The memory of all buffers, with zeros as padding. Empty until `allocate`. */
  bufferData: Float32Array = new Float32Array(0);
  /** The memory of the weights. Empty until `allocate`. */
  shards: Float32Array[] = [];
  /** The memory of the gradients. Empty until `ensureGradients`. */
  gradShards: Float32Array[] = [];
  /**
   * Factor of existing gradients in a backward: 1 adds to them; 0 overwrites them, which saves the pass over memory that
   * zeroing takes. It is 0 only while a whole model's backward runs, which reaches every weight.
   */
  gradBeta: 0 | 1 = 1;
  /** Whether writing to the weights is an error, as it is between `freeze` and `unfreeze`. */
  frozen = false;
  /** Bytes of the packed copies that a frozen model keeps beside its weights; 0 without copies. */
  packedBytes = 0;
  /** Whether other ranks have weights of the model that this store hasn't. */
  isPart = false;
  /** The matrices that are kept as they are stored; null without any. */
  stored: AttachedTables | null = null;

  #rounded: Products | null = null;
  readonly #weights: Weight[] = [];
  readonly #tables: Table[] = [];
  #isStored = false;
  #places: Places;
  #isChosen: (name: string) => boolean = () => true;
  /** Whether a parameter, of this store or of other ranks', is trained. */
  readonly isChosen = (name: string): boolean => this.#isChosen(name);
  /** How often the choice of what is trained has changed. */
  choices = 0;
  /** The places of the gradients; null until they are needed. */
  #gradPlaces: Places | null = null;
  readonly #bufferWeights: Weight[] = [];
  #bufferSize = 0;

  readonly #maxShardElements: number;

  constructor(
    readonly kernels: Kernels,
    private readonly options: StoreOptions = {},
  ) {
    this.#maxShardElements = options.maxShardElements ?? MAX_SHARD_ELEMENTS;
    this.#places = new Places(this.#maxShardElements);
  }

  /** Reserves a weight of `size` elements. Weights keep this order in memory and take init stream 0, 1, 2, ... */
  addWeight(size: number, init: Init, kind: WeightKind): Weight {
    return this.#add(new Weight(1, size, init, kind));
  }

  /** Reserves a table [rows,cols] for reading rows, with Kaiming normal init and fan-in cols. */
  addTable(rows: number, cols: number): Table {
    return this.#addTable(new Table(rows, cols));
  }

  /** Reserves `count` matrices [rows,cols] for matmuls, with Kaiming normal init and fan-in cols. */
  addMatrix(rows: number, cols: number, count = 1, kind?: WeightKind): Matrix {
    return this.#addTable(new Matrix(rows, cols, count, kind));
  }

  /**
   * Reserves `count` of the matrices of all ranks, which are divided over them; `first` is the number of the first. The values of
   * `initialise` are those that `addMatrix` of all would get.
   */
  addDivided(rows: number, cols: number, { first, count }: { first: number; count: number }): Matrix {
    this.isPart = true;
    const matrix = new Matrix(rows, cols, count);
    matrix.dividedFrom = first;
    return this.#addTable(matrix);
  }

  /** Reserves a matrix as `addMatrix` does that is float32 in every model: a router, whose choices errors would change. */
  addGate(rows: number, cols: number): Matrix {
    return this.#add(new Matrix(rows, cols, 1, 'matrix', true));
  }

  /** Reserves a bias of `size` elements, zeros at first. */
  addBias(size: number): Bias {
    return this.#add(new Bias(size));
  }

  /** Reserves a buffer [size] under its public name. */
  addBuffer(name: string, size: number): Weight {
    const weight = new Weight(1, size, { kind: 'zeros' }, 'bias');
    weight.offset = this.#bufferSize;
    this.#bufferSize += padded(size);
    this.#bufferWeights.push(weight);
    this.buffers.push(new Parameter(name, Object.freeze([size]), weight, 0, this));
    return weight;
  }

  #addTable<T extends Table>(table: T): T {
    this.#tables.push(table);
    return this.#add(table);
  }

  #add<W extends Weight>(weight: W): W {
    this.#place(weight);
    this.#weights.push(weight);
    return weight;
  }

  #place(weight: Weight): void {
    if (weight.isStored) return;
    Object.assign(weight, this.#places.place(weight.size, weight));
  }

  /** The tables and matrices that may be kept as they are stored, in the order they were added. */
  get tables(): readonly Table[] {
    return this.#tables;
  }

  /** Whether some matrix is kept as it is stored: the model then only serves. */
  get isStored(): boolean {
    return this.#isStored;
  }

  /**
   * Gives no float32 memory to these of `tables`; call it before `allocate`. Ranges that were read earlier don't hold any
   * more, so such a model has no gradients.
   */
  keepStored(tables: Iterable<Table>): void {
    for (const table of tables) {
      table.isStored = true;
      this.#isStored = true;
    }
    this.#places = new Places(this.#maxShardElements);
    this.#gradPlaces = null;
    for (const weight of this.#weights) this.#place(weight);
  }

  /**
   * Chooses the parameters that backwards give a gradient; all at first. Gradients that exist are dropped unless the choice
   * is the same. @param names of all parameters, those of other ranks included, which have to see the same change.
   */
  choose(isChosen: (name: string) => boolean, names = this.parameters.map(({ name }) => name)): void {
    const was = this.#isChosen;
    this.#isChosen = isChosen;
    if (names.every((name) => was(name) === isChosen(name))) return;
    this.choices++;
    this.gradShards = [];
    this.#gradPlaces = null;
    for (const parameter of this.parameters) parameter.forgetGrad();
    for (const { gradient } of this.#weights) gradient.space.data = new Float32Array(0);
  }

  /** The places of the gradients; the weights get their trained parts with them. */
  #placeGradients(): Places {
    if (this.#gradPlaces !== null) return this.#gradPlaces;
    this.#gradPlaces = new Places(this.#maxShardElements);
    chooseParts(this.#weights, this.parameters, this.#isChosen, this.#gradPlaces);
    return this.#gradPlaces;
  }

  /**
   * Call it before results of stored matrices leave: checks that their files are what they were.
   * @throws SgemoeError SGEMOE_CHECKPOINT_CHANGED
   */
  requireUnchanged(): void {
    if (this.stored !== null) for (const file of this.stored.files) file.requireUnchanged();
  }

  /** Gives the tables of `keepStored` their contents. @throws SgemoeError as `FileBytes.open`. */
  attachStored(stored: StoredTables): void {
    this.stored = attachStored(this.kernels, this.#tables, stored);
  }

  /** Whether rows of queries and keys pair halves of a head, as mapped files have them (ropePairs.ts); if not, neighbours. */
  get pairsHalves(): boolean {
    return this.stored?.shared.halves ?? false;
  }

  /** Bytes of the weights and buffers in memory, and of those that are mapped from files. */
  get allBytes(): { resident: number; mapped: number } {
    const { files = [], residentBytes = 0 } = this.stored ?? {};
    const mapped = files.reduce((sum, file) => sum + (file.mapped ? file.byteLength : 0), 0);
    return { resident: this.weightBytes + residentBytes, mapped };
  }

  /** Gives the elements from `start` on of a weight a public name. Throws what `options.onExpose` throws. */
  expose(name: string, shape: readonly number[], weight: Weight, start = 0): Parameter {
    this.options.onExpose?.(name, shape);
    const parameter = new Parameter(name, Object.freeze([...shape]), weight, start, this);
    this.parameters.push(parameter);
    return parameter;
  }

  /**
   * Allocates the buffers, zeroed, or takes those of `options.shared`. Call it once, after all weights have been added.
   * @throws RangeError if a single weight is larger than a buffer may be; TypeError for shards that don't fit.
   */
  allocate(): void {
    const weights = this.#weights.filter(({ isStored }) => !isStored);
    for (const { size } of weights) {
      if (size > this.#maxShardElements) {
        throw new RangeError(`a weight of ${size} elements exceeds the limit of ${this.#maxShardElements}`);
      }
    }
    const { shared } = this.options;
    if (shared) this.#checkShards(shared.shards, this.#places.shardSizes);
    if (shared) this.#checkShards([shared.bufferData], [this.#bufferSize]);
    this.shards = shared?.shards ?? this.#buffersOf(this.#places);
    this.bufferData = shared?.bufferData ?? this.kernels.memory.floats(this.#bufferSize, true);
    for (const weight of weights) weight.values.space.data = viewOf(this.shards, weight, weight.size);
    for (const weight of this.#bufferWeights) {
      weight.values.space.data = viewOf([this.bufferData], weight, weight.size);
    }
  }

  /**
   * The tensors of a checkpoint: the parameters, and the buffers unless all of them are 0. Only read them: they are the
   * weights themselves even if the model is frozen, since files are written from an array's buffer.
   * @throws TypeError if they are a part of the model's.
   */
  checkpointTensors(): { name: string; shape: readonly number[]; data: Float32Array }[] {
    if (this.isPart)
      throw new TypeError(
        'a model whose experts are divided over ranks can not be saved by itself: saveTraining does, on all ranks',
      );
    return [...viewsIn(this.shards, this.parameters), ...this.bufferTensors()];
  }

  /** The buffers of a checkpoint: none if all of them are 0. Only read them. */
  bufferTensors(): { name: string; shape: readonly number[]; data: Float32Array }[] {
    return this.bufferData.every((value) => value === 0) ? [] : viewsIn([this.bufferData], this.buffers);
  }

  #checkShards(shards: readonly Float32Array[], sizes: readonly number[]): void {
    const type = this.kernels.floatType === 'float64' ? Float64Array : Float32Array;
    const fits = (shard: Float32Array, i: number) =>
      shard instanceof type && types.isSharedArrayBuffer(shard.buffer) && shard.length === sizes[i];
    if (Array.isArray(shards) && shards.length === sizes.length && shards.every(fits)) return;
    throw new TypeError(
      `shards must be ${type.name}s on SharedArrayBuffers of ${sizes.join(', ')} elements, as model.share() gives`,
    );
  }

  /**
   * Fills the weights with values that depend only on the seed and the order of the weights, on every backend and machine.
   * @throws SgemoeError SGEMOE_MODEL_FROZEN
   */
  initialise(seed: number): void {
    this.requireWritable();
    const [low, high] = splitSeed(seed);
    this.#weights.forEach((weight, stream) => {
      const { init, data, drawnApart } = weight;
      if (init.kind === 'kaiming') {
        const drawn = drawnApart === 0 ? data : this.kernels.memory.floats(drawnApart);
        this.kernels.randomNormal(drawn, 0, drawn.length, low, high, stream, Math.sqrt(2 / init.fanIn));
        if (drawn !== data) {
          data.set(drawn.subarray(drawnApart - data.length));
          this.kernels.memory.release(drawn);
        }
      } else {
        data.fill(init.kind === 'ones' ? 1 : 0);
      }
    });
  }

  /**
   * Makes writing to the weights an error. @param copies packed copies of matrices to keep: 'own' makes them where the
   * backend computes faster with them, an array is the `packed` of another store of the same weights, 'none' adds none and
   * keeps existing ones.
   */
  freeze(copies: 'none' | 'own' | readonly Float32Array[] = 'none'): void {
    if (copies !== 'none' && this.packedBytes === 0) this.#keepPacked(copies);
    this.#setFrozen(true);
  }

  #keepPacked(copies: 'own' | readonly Float32Array[]): void {
    const { kernels } = this;
    const matrices = this.#matrices();
    // All memory is allocated first: if that fails, nothing is frozen.
    const packed =
      copies === 'own'
        ? matrices.map((matrix) => kernels.memory.floats(matrix.packedSize(kernels), true))
        : copies;
    matrices.forEach((matrix, i) => {
      if (packed[i].length === 0) return;
      if (copies === 'own') matrix.pack(kernels, packed[i]);
      else matrix.packed = packed[i];
      this.packedBytes += packed[i].byteLength;
    });
  }

  /** The packed copy of each float32 matrix, an empty array without one; null unless frozen. */
  get packed(): Float32Array[] | null {
    if (!this.frozen) return null;
    return this.#matrices().map((matrix) => matrix.packed ?? this.kernels.memory.floats(0, true));
  }

  /** What multiplies by matrices in a precision. */
  productsIn(precision: Precision): Products {
    if (precision === 'float32') return this.kernels;
    this.#rounded ??= roundedProducts(this.kernels);
    return this.#rounded;
  }

  #matrices(): Matrix[] {
    return this.#weights.filter((weight) => weight instanceof Matrix && !weight.isStored) as Matrix[];
  }

  /** Drops the packed copies and allows writing to the weights again. */
  unfreeze(): void {
    for (const matrix of this.#matrices()) matrix.packed = null;
    this.packedBytes = 0;
    this.#setFrozen(false);
  }

  #setFrozen(frozen: boolean): void {
    for (const weight of [...this.#weights, ...this.#bufferWeights]) weight.frozen = frozen;
    this.frozen = frozen;
  }

  /** Call it before weights are written. @throws SgemoeError SGEMOE_MODEL_FROZEN or SGEMOE_MODEL_STORED */
  requireWritable(): void {
    if (this.isStored) refuseStored();
    if (this.frozen) refuseWrite();
  }

  /** Allocates the gradients unless they exist. @throws SgemoeError SGEMOE_MEMORY or SGEMOE_MODEL_STORED */
  ensureGradients(): void {
    if (this.gradShards.length > 0) return;
    const bytes = this.mirrorBytes;
    if (this.#weights.some(({ isStored, isTrained }) => isStored && isTrained)) refuseStored();
    requireMemory('The backward', { gradients: bytes }, this.kernels.memory.available);
    this.gradShards = this.mirror();
    const unread = this.kernels.memory.floats(this.#largestNorm());
    for (const { trained, gradient, kind } of this.#weights) {
      if (trained.length === 0 && kind === 'norm') gradient.space.data = unread;
      for (const part of trained)
        part.gradient.space.data = viewOf(this.gradShards, part, part.gradient.size);
    }
  }

  /** A norm's backward computes its gain's gradient on the way; that of gains that aren't trained is written over. */
  #largestNorm(): number {
    return this.#weights.reduce((most, { kind, size, isTrained }) => {
      return kind === 'norm' && !isTrained ? Math.max(most, size) : most;
    }, 0);
  }

  /** Sets all gradients to 0. */
  zeroGradients(): void {
    this.ensureGradients();
    for (const shard of this.gradShards) shard.fill(0);
  }

  /** Bytes of the float32 weights and buffers, allocated or not yet. */
  get weightBytes(): number {
    return (sum(this.#places.shardSizes) + this.#bufferSize) * floatBytes(this.kernels);
  }

  /** Whether each of the buffers of weights has those that are divided over ranks. */
  get shardDivided(): readonly boolean[] {
    return this.#places.isDivided;
  }

  /** Elements of each buffer that `mirror` makes. */
  get mirrorSizes(): readonly number[] {
    return this.#placeGradients().shardSizes;
  }

  /** Whether each of these buffers mirrors weights that are divided over ranks. */
  get mirrorDivided(): readonly boolean[] {
    return this.#placeGradients().isDivided;
  }

  /** Bytes of the buffers that `mirror` makes: of the gradients, or of one moment. */
  get mirrorBytes(): number {
    return sum(this.mirrorSizes) * floatBytes(this.kernels);
  }

  /** Bytes of the packed copies that `freeze('own')` makes. */
  copyBytes(): number {
    const elements = this.#matrices().reduce((total, matrix) => total + matrix.packedSize(this.kernels), 0);
    return elements * floatBytes(this.kernels);
  }

  /** Allocates zeroed, 64-byte aligned buffers of the sizes of the gradients, for those and for optimizer moments. */
  mirror(): Float32Array[] {
    return this.#buffersOf(this.#placeGradients());
  }

  #buffersOf({ shardSizes }: Places): Float32Array[] {
    return shardSizes.map((size) => this.kernels.memory.floats(size, true));
  }

  /** Number of weights reserved so far. */
  get weightCount(): number {
    return this.#weights.length;
  }

  /** Whether a backward gives any of weights [first, end), counted in the order they were added, a gradient. */
  trains(first: number, end: number): boolean {
    this.#placeGradients();
    return this.#weights.slice(first, end).some(({ isTrained }) => isTrained);
  }

  /** The ranges of gradient buffers, one for each, of weights [first, end), counted in the order they were added. */
  rangesOf(first: number, end: number): WeightRange[] {
    this.#placeGradients();
    return gradientRanges(this.#weights.slice(first, end));
  }

  /** Cuts what is trained into the fewest stretches of neighbouring weights with equal `keyOf`, padding included. */
  stretches<Key>(keyOf: (kind: WeightKind) => Key): Stretch<Key>[] {
    this.#placeGradients();
    return stretchesOf(this.#weights, keyOf);
  }

  /**
   * Sum of the squares of all gradients, or of those in `range`, accumulated in float64. 0 before the first backward. Sums
   * of ranges may differ from the sum of all in the last bits, unless they are those of its blocks (`Kernels.sumSquares`).
   */
  gradSquares(range?: WeightRange): number {
    const { gradShards, kernels } = this;
    if (gradShards.length === 0) return 0;
    if (range) return kernels.sumSquares(gradShards[range.shard], range.offset, range.size);
    let total = 0;
    for (const shard of gradShards) total += kernels.sumSquares(shard, 0, shard.length);
    return total;
  }

  /** L2 norm over all gradients, sqrt(sum g^2). 0 before the first backward. */
  gradNorm(): number {
    return Math.sqrt(this.gradSquares());
  }
}

function viewsIn(shards: readonly Float32Array[], tensors: readonly Parameter[]) {
  return tensors.map((each) => ({ name: each.name, shape: each.shape, data: each.viewIn(shards) }));
}

function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + size, 0);
}

function viewOf(
  shards: Float32Array[],
  { shard, offset }: { readonly shard: number; readonly offset: number },
  size: number,
): Float32Array {
  return shards[shard].subarray(offset, offset + size);
}

/** The two 32-bit halves of a seed. @throws RangeError unless it is an integer in [0, 2^53). */
export function splitSeed(seed: number): [low: number, high: number] {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`seed must be an integer in [0, 2^53), got ${seed}`);
  }
  return [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
}
