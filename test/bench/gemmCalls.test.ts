import { describe, expect, test } from 'vitest';
import { recordingKernels, replay } from '../../bench/lib/gemmCalls';
import { getKernels } from '../../src/backend';
import { ModelConfig } from '../../src/config/modelConfig';
import { MoETransformer } from '../../src/model/model';
import { Tensor } from '../../src/tensor/tensor';
import { Trainer } from '../../src/training/trainer';

const B = 2;
const S = 8;

function record(config: ModelConfig, run: (model: MoETransformer) => void) {
  const kernels = getKernels();
  const recorder = recordingKernels(kernels);
  const model = MoETransformer.create(config, { kernels: recorder.kernels });
  recorder.recording = true;
  run(model);
  return { kernels, model, calls: recorder.calls };
}

const flopsOf = (calls: { flops: number }[]) => calls.reduce((sum, { flops }) => sum + flops, 0);
const ids = Tensor.fromIds(
  Array.from({ length: B }, (_, b) => Array.from({ length: S }, (_, s) => b * S + s)),
);

/** Multiplications and additions of a forward, from the equations: weights that a token meets, and its attention. */
function forwardFlops(c: ModelConfig) {
  const projections = c.hiddenDim * (2 * c.queryDim + 2 * c.kvDim);
  const experts = c.topKExperts * 3 * c.ffnDim * c.hiddenDim;
  const router = c.nExperts * c.hiddenDim;
  const weights = 2 * B * S * (c.nLayers * (projections + experts + router) + c.vocabSize * c.hiddenDim);
  const attention = 2 * 2 * B * c.nHeads * S * S * c.headDim * c.nLayers;
  return { weights, attention };
}

describe('the list of matmul calls that the overhead is measured against', () => {
  const config = ModelConfig.tiny({ nKvHeads: 2 });

  test('a forward lists exactly its arithmetic', () => {
    const { calls } = record(config, (model) => model.forward(ids));
    const { weights, attention } = forwardFlops(config);
    expect(flopsOf(calls)).toBe(weights + attention);
  });

  test('a forward of a frozen model lists the same arithmetic', () => {
    const { calls } = record(config, (model) => {
      model.freeze({ pack: true });
      model.forward(ids);
    });
    const { weights, attention } = forwardFlops(config);
    expect(flopsOf(calls)).toBe(weights + attention);
  });

  test('a matmul that it does not know is an error, not a floor without it', () => {
    expect(() => recordingKernels({ ...getKernels(), sgemmSparse: () => {} })).toThrow(/sgemmSparse/);
  });

  test('the optimizer of a train step is listed apart', () => {
    const recorder = recordingKernels(getKernels());
    const model = MoETransformer.create(config, { kernels: recorder.kernels });
    recorder.recording = true;
    new Trainer(model).trainStep(ids, ids);
    expect(recorder.updates.map(({ kernel }) => kernel)).toEqual(['adamw']);
  });

  test('a train step lists two more products for each weight, and five for the two of attention', () => {
    const { calls } = record(config, (model) => new Trainer(model).trainStep(ids, ids));
    const { weights, attention } = forwardFlops(config);
    expect(flopsOf(calls)).toBe(3 * weights + (1 + 5 / 2) * attention);
  });

  test('nothing is listed while it is not recording', () => {
    const recorder = recordingKernels(getKernels());
    MoETransformer.create(config, { kernels: recorder.kernels }).forward(ids);
    expect(recorder.calls).toEqual([]);
  });

  test('repeating the calls of a forward computes its last product again', () => {
    const { kernels, calls } = record(config, (model) => model.forward(ids));
    const logits = calls.at(-1)!.args[13] as Float32Array;
    const before = logits.slice();
    logits.fill(0);
    replay(kernels, calls)();
    expect(logits).toEqual(before);
  });
});
