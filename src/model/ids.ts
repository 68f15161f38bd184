import { checkIds, checkInteger, checkOptions, checkTensor } from '../base/checks';
import { checkPrecision } from '../base/precision';
import type { Tensor } from '../tensor/tensor';
import type { ForwardOptions } from './options';
import type { PassMode } from './pass';

const FORWARD_OPTIONS: readonly (keyof ForwardOptions)[] = [
  'training',
  'gradientCheckpointing',
  'precision',
  'out',
];

/** The ids of an int32 or int64 tensor as numbers. */
export function idsOf(ids: Tensor): ArrayLike<number> {
  if (ids.data instanceof Int32Array) return ids.data;
  // Numbers instead of int32: an id that doesn't fit must reach the check, not wrap around before it.
  if (ids.data instanceof BigInt64Array) return Array.from(ids.data, Number);
  throw new TypeError(`ids must be an int32 or int64 tensor, got ${ids.dtype}`);
}

/**
 * Checks the arguments of `forwardIds` for logits [B,S,V].
 * @throws RangeError or TypeError
 */
export function checkForward(
  ids: ArrayLike<number>,
  [batch, seq, vocabSize]: readonly [batch: number, seq: number, vocabSize: number],
  options: ForwardOptions,
  floatType: 'float32',
): void {
  checkInteger('forwardIds: batch', batch, 0);
  checkInteger('forwardIds: seq', seq, 0);
  checkOptions('forward', options, FORWARD_OPTIONS);
  checkPrecision('forward', options.precision);
  if (ids.length !== batch * seq) {
    throw new RangeError(`forwardIds: ids must hold batch * seq = ${batch * seq} tokens, got ${ids.length}`);
  }
  checkIds('forwardIds', ids, vocabSize);
  if (options.out) checkTensor('out', options.out, [batch, seq, vocabSize], floatType);
}

/** What a forward with these options keeps. */
export function modeOf({ training, gradientCheckpointing }: ForwardOptions): PassMode {
  if (!training) return 'forward';
  return gradientCheckpointing ? 'recompute' : 'train';
}
