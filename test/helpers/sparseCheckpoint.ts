import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ModelConfig } from '../../src';
import { getKernels } from '../../src/backend';
import { ParameterStore } from '../../src/memory/parameters';
import { assemble } from '../../src/model/assemble';

/** 440 billion parameters: 1.8 TB in float32. */
export const HUGE = ModelConfig.default6_9b({ ffnDim: 64 * 6144 });

/** A checkpoint of bfloat16 zeros, with the byte tokenizer, that takes no space: its file has a header and a hole. */
export function writeSparseCheckpoint(dir: string, config: ModelConfig): void {
  const store = new ParameterStore(getKernels());
  assemble(config, store);
  const header: Record<string, object> = {};
  let end = 0;
  for (const { name, shape, size } of store.parameters) {
    header[name] = { dtype: 'BF16', shape, data_offsets: [end, end + 2 * size] };
    end += 2 * size;
  }
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  mkdirSync(dir, { recursive: true });
  const file = openSync(join(dir, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([prefix, json]));
  ftruncateSync(file, 8 + json.length + end);
  closeSync(file);
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config.toJSON()));
  writeFileSync(join(dir, 'tokenizer.json'), JSON.stringify({ type: 'byte', vocab_size: 256 }));
}
