import { backendInfo } from '../../backend';
import type { Precision } from '../../base/precision';
import type { CliIo } from './io';

const NO_FASTER = 'no faster here: the processor has no products of bfloat16 in use (sgemoe info)';

/** What is to be said about the speed of mixed precision; null where a matrix unit multiplies. */
export function slowPrecision(precision: Precision | undefined): string | null {
  return precision === 'bfloat16' && backendInfo().matrixUnit === 'none' ? NO_FASTER : null;
}

/** Says at the head of a command that mixed precision, which was asked for, won't be faster. */
export function tellPrecision(precision: Precision | undefined, { stderr }: CliIo): void {
  const note = slowPrecision(precision);
  if (note !== null) stderr.write(`Mixed precision is ${note}.\n`);
}
