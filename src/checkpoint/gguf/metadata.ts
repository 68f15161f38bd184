import { SgemoeError } from '../../base/errors';
import { corrupt, quoteName } from '../safetensorsHeader';
import type { GgufFile } from './ggufFile';
import type { GgufTensor } from './header';

/** The metadata of a model, read with their types checked. Keys stand below the architecture's name. */
export class GgufMetadata {
  readonly architecture: string;
  readonly tensors: ReadonlyMap<string, GgufTensor>;

  /** @throws SgemoeError SGEMOE_CONFIG_INVALID if the file doesn't say what architecture it has. */
  constructor(private readonly file: GgufFile) {
    const name = file.metadata.get('general.architecture');
    if (typeof name !== 'string') throw this.refused('general.architecture must be a string');
    this.architecture = name;
    this.tensors = file.tensors;
  }

  /** The keys below the architecture's name. */
  get keys(): string[] {
    const prefix = `${this.architecture}.`;
    const keys = [...this.file.metadata.keys()].filter((key) => key.startsWith(prefix));
    return keys.map((key) => key.slice(prefix.length));
  }

  get(key: string): unknown {
    return this.file.metadata.get(`${this.architecture}.${key}`);
  }

  /**
   * A float32 counts as the shortest decimal number that rounds to it, which config.json had: 1e-5, not 0.000009999999747.
   * @throws SgemoeError SGEMOE_CONFIG_INVALID if the value isn't a number, or is missing and has no default.
   */
  number(key: string, missing?: number): number {
    const value = this.get(key) ?? missing;
    if (typeof value === 'number') return shortest(value);
    const got = value === undefined ? 'it is missing' : `got a ${typeof value}`;
    throw this.refused(`${this.architecture}.${key} must be a number, ${got}`);
  }

  get headDim(): number {
    const even = this.number('embedding_length') / this.number('attention.head_count');
    return this.number('attention.key_length', even);
  }

  /** The length of a tensor's axis before the last: the outputs of a matrix. @throws SgemoeError SGEMOE_CHECKPOINT_MISSING_TENSOR */
  rowsOf(name: string): number {
    const tensor = this.tensors.get(name);
    if (tensor !== undefined) return tensor.shape.at(-2) ?? 1;
    throw corrupt(
      'SGEMOE_CHECKPOINT_MISSING_TENSOR',
      this.file.path,
      `there is no tensor ${quoteName(name)}`,
    );
  }

  refused(what: string): SgemoeError {
    return new SgemoeError('SGEMOE_CONFIG_INVALID', `${this.file.path}: ${what}.`);
  }
}

function shortest(value: number): number {
  const short = Number(value.toPrecision(7));
  return Math.fround(short) === value ? short : value;
}
