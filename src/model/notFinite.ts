import type { Kernels } from '../backend/kernels';
import { listNames, type NamedTensor } from '../checkpoint/checkpoint';

/**
 * A sentence that names the tensors with NaN or infinite numbers; null if there are none. It takes one pass over the
 * weights: a float64 sum of squares is finite if all its float32 numbers are, so only other tensors are searched.
 */
export function notFiniteNote(kernels: Kernels, tensors: Iterable<NamedTensor>): string | null {
  const names: string[] = [];
  let first = '';
  for (const { name, data } of tensors) {
    if (Number.isFinite(kernels.sumSquares(data, 0, data.length))) continue;
    const at = data.findIndex((value) => !Number.isFinite(value));
    if (at < 0) continue;
    if (names.length === 0) first = `element ${at} of the first is ${data[at]}`;
    names.push(name);
  }
  if (names.length === 0) return null;
  const hold = names.length === 1 ? 'holds' : 'hold';
  return `${listNames(names)} ${hold} numbers that are not finite (${first}): neither is what the model computes with them.`;
}
