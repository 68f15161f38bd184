import { ggufConfig } from './ggufConfig';
import { GgufFile } from './ggufFile';
import { GgufTensors } from './ggufTensors';
import { type GgufTokenizerFacts, ggufGenerationConfig, ggufTokenizerFacts } from './ggufTokenizer';
import { GgufMetadata } from './metadata';
import { ROPE_FACTORS } from './ropeScaling';

/** What a GGUF file says about itself. */
export interface GgufFacts {
  readonly version: number;
  /** `general.architecture` */
  readonly architecture: string;
  /** Other texts and numbers below `general.`, such as name and license. */
  readonly general: Readonly<Record<string, string | number>>;
  /** null where there is none. */
  readonly tokenizer: GgufTokenizerFacts | null;
}

/**
 * Opens a GGUF file as the checkpoint of `transformers` that it was made from: the same config.json, and the same tensors,
 * which become float32 when they are read. The tokenizer is left to `readStoredTokenizer`: one that isn't known prevents only text.
 * @throws SgemoeError the errors of `GgufFile.open`; SGEMOE_CONFIG_INVALID for a model that isn't computed here.
 */
export async function openGgufCheckpoint(path: string) {
  const file = await GgufFile.open(path);
  try {
    const metadata = new GgufMetadata(file);
    const { architecture, config } = ggufConfig(metadata, await readRopeFactors(file));
    const tensors = new GgufTensors(file, architecture, metadata.headDim);
    return {
      config,
      generationConfig: ggufGenerationConfig(file),
      tokenizer: null,
      tensors,
      gguf: factsOf(file),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** More factors than any head has pairs; a tensor of that name with more isn't read. */
const MOST_FACTORS = 2 ** 16;

async function readRopeFactors(file: GgufFile): Promise<Float32Array | null> {
  const tensor = file.tensors.get(ROPE_FACTORS);
  if (tensor === undefined) return null;
  const factors = new Float32Array(Math.min(tensor.elements, MOST_FACTORS));
  await file.readPartInto(tensor, 0, factors);
  return factors;
}

function factsOf(file: GgufFile): GgufFacts {
  const general = [...file.metadata].flatMap(([key, value]) => {
    const [, name] = /^general\.(.+)$/.exec(key) ?? [];
    const isFact = typeof value === 'string' || typeof value === 'number';
    return name === undefined || !isFact ? [] : [[name, value] as const];
  });
  const { architecture, ...others } = Object.fromEntries(general);
  return {
    version: file.version,
    architecture: String(architecture),
    general: others,
    tokenizer: ggufTokenizerFacts(file),
  };
}
