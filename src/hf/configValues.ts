import { SgemoeError } from '../base/errors';

/** The values of another tool's config.json. Each value's type is checked when it is read. */
export class ConfigValues {
  constructor(private readonly json: Readonly<Record<string, unknown>>) {}

  /** The value of a key; undefined if it is missing or null. */
  get(key: string): unknown {
    return Object.hasOwn(this.json, key) ? (this.json[key] ?? undefined) : undefined;
  }

  /** Whether the key exists, even with the value null. */
  has(key: string): boolean {
    return Object.hasOwn(this.json, key);
  }

  keys(): string[] {
    return Object.keys(this.json);
  }

  /** @throws SgemoeError SGEMOE_CONFIG_INVALID if the value isn't a number, or is missing and has no default. */
  number(key: string, missing?: number): number {
    const value = this.get(key) ?? missing;
    if (value === undefined) throw refused(`${key} is missing`);
    if (typeof value !== 'number') throw refused(`${key} must be a number, got ${JSON.stringify(value)}`);
    return value;
  }

  boolean(key: string, missing: boolean): boolean {
    const value = this.get(key) ?? missing;
    if (typeof value !== 'boolean')
      throw refused(`${key} must be true or false, got ${JSON.stringify(value)}`);
    return value;
  }
}

/** A value in the form that messages show. */
export const show = (value: unknown) => JSON.stringify(value);

/** SGEMOE_CONFIG_INVALID: `what` is wrong in config.json, or another file. */
export function refused(what: string, file = 'config.json'): SgemoeError {
  return new SgemoeError('SGEMOE_CONFIG_INVALID', `${file}: ${what}.`);
}
