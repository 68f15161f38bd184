import { InvalidArgumentError } from 'commander';
import { inWords, isWithin, type Range } from '../../base/options';
import type { SaveInterval } from '../../training/run/saveSchedule';

/** The largest size or count that the library takes. */
const MAX_COUNT = 2 ** 31 - 1;

/** Parses an option's value as an integer in [min, max]. */
export function integer(min: number, max: number = MAX_COUNT): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^[+-]?\d+$/.test(text) && value >= min && value <= max) return value;
    const range = max === MAX_COUNT || max === Number.MAX_SAFE_INTEGER ? `>= ${min}` : `in ${min}..${max}`;
    throw new InvalidArgumentError(`It must be an integer ${range}.`);
  };
}

/** Parses an option's value as a finite number in a range. */
export function decimal(range: Range): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value) && isWithin(value, range)) return value;
    throw new InvalidArgumentError(`It must be a number${inWords(range)}.`);
  };
}

/** Parses '500' as steps, '10m' as minutes. */
export function saveInterval(text: string): SaveInterval {
  const minutes = /^(\d+(?:\.\d+)?)m$/.exec(text);
  if (minutes === null) {
    try {
      return { steps: integer(1)(text) };
    } catch {
      throw new InvalidArgumentError("It must be steps, an integer >= 1, or minutes, such as '10m'.");
    }
  }
  if (Number(minutes[1]) > 0) return { minutes: Number(minutes[1]) };
  throw new InvalidArgumentError('It must be more than 0 minutes.');
}

/** Parses '0,2,2' as numbers >= 0. */
export function counts(text: string): number[] {
  if (/^\d{1,9}(,\d{1,9})*$/.test(text)) return text.split(',').map(Number);
  throw new InvalidArgumentError('It must be integers >= 0 with commas between them.');
}

/** Takes an option's value that may not be empty. */
export function someText(text: string): string {
  if (text !== '') return text;
  throw new InvalidArgumentError('It must not be empty.');
}
