import { ggufConfig } from './ggufConfig';
import { GgufFile } from './ggufFile';
import { GgufTensors } from './ggufTensors';
import { GgufMetadata } from './metadata';

/** Whether a path is taken for a GGUF file: by its name, which llama.cpp's tools demand as well. */
export function isGgufPath(path: string): boolean {
  return /\.gguf$/i.test(path);
}

/**
 * Opens a GGUF file as the checkpoint of `transformers` that it was made from: the same config.json, and the same tensors,
 * which become float32 when they are read.
 * @throws SgemoeError the errors of `GgufFile.open`; SGEMOE_CONFIG_INVALID for a model that isn't computed here.
 */
export async function openGgufCheckpoint(path: string) {
  const file = await GgufFile.open(path);
  try {
    const metadata = new GgufMetadata(file);
    const { architecture, config } = ggufConfig(metadata);
    const tensors = new GgufTensors(file, architecture, metadata.headDim);
    return { config, generationConfig: null, tokenizer: null, tensors };
  } catch (error) {
    await file.close();
    throw error;
  }
}
