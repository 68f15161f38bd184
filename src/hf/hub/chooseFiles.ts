import { SgemoeError } from '../../base/errors';
import { formatBytes } from '../../base/formatBytes';
import { CONFIG_FILE, WEIGHTS_FILE } from '../../checkpoint/checkpoint';
import { GENERATION_FILE } from '../../checkpoint/generationConfig';
import { isGgufPath } from '../../checkpoint/gguf/ggufFile';
import { INDEX_FILE } from '../../checkpoint/shards';
import { TOKENIZER_FILES } from '../../checkpoint/tokenizerFiles';
import { closest } from './closest';
import type { HubName } from './hubName';

/** The files of a model, in the order in which they are downloaded: the weights come last. */
export interface Choice<File> {
  readonly files: readonly File[];
  /** The GGUF file that is the model; null if it is a folder. */
  readonly gguf: string | null;
}

/** GGUF files that aren't models of their own: the eyes of a vision model, and the statistics of a quantization. */
const NO_MODEL = /(^|[/._-])(mmproj|imatrix)/i;
/** A GGUF file that is one of several parts. */
const PART = /-\d{5}-of-\d{5}\.gguf$/i;
/** Files listed in a message. */
const LISTED = 20;

/**
 * The files of a repository that sgemoe reads: one GGUF file, or config.json, generation_config.json, the tokenizer's files and
 * the safetensors that the loader takes.
 * @param shardsOf the names of the files that an index lists
 * @throws SgemoeError SGEMOE_HUB_NOT_FOUND for a file that isn't there, SGEMOE_HUB_FILES where none or several can be meant.
 */
export async function chooseFiles<File extends { readonly path: string; readonly size: number | null }>(
  { repository, file: wanted }: HubName,
  files: readonly File[],
  shardsOf: (index: File) => Promise<Iterable<string>>,
): Promise<Choice<File>> {
  const at = new Map(files.map((file) => [file.path, file]));
  const hasWeights = at.has(WEIGHTS_FILE) || at.has(INDEX_FILE);
  if (wanted !== null || !(hasWeights && at.has(CONFIG_FILE))) return chooseGguf(repository, wanted, files);
  const present = (names: readonly string[]) => names.flatMap((name) => at.get(name) ?? []);
  const small = present([CONFIG_FILE, GENERATION_FILE, ...TOKENIZER_FILES]);
  const single = at.get(WEIGHTS_FILE);
  if (single !== undefined) return { files: [...small, single], gguf: null };
  const index = at.get(INDEX_FILE)!;
  const names = [...new Set(await shardsOf(index))];
  const missing = names.find((name) => !at.has(name));
  if (missing !== undefined) {
    throw new SgemoeError(
      'SGEMOE_HUB_FILES',
      `${repository}: ${INDEX_FILE} names ${missing}, which isn't there.`,
    );
  }
  return { files: [...small, index, ...present(names)], gguf: null };
}

/**
 * The files of a repository's tokenizer: tokenizer.json and those beside it, or the GGUF file that has it inside.
 * @throws as `chooseFiles`.
 */
export async function chooseTokenizer<File extends { readonly path: string; readonly size: number | null }>(
  { repository, file: wanted }: HubName,
  files: readonly File[],
): Promise<Choice<File>> {
  const found = TOKENIZER_FILES.flatMap((name) => files.find(({ path }) => path === name) ?? []);
  if (wanted === null && found[0]?.path === TOKENIZER_FILES[0]) return { files: found, gguf: null };
  if (wanted !== null || files.some(({ path }) => isGgufPath(path)))
    return chooseGguf(repository, wanted, files);
  throw new SgemoeError('SGEMOE_HUB_FILES', `${repository} has no ${TOKENIZER_FILES[0]}, and no GGUF file.`);
}

function chooseGguf<File extends { readonly path: string; readonly size: number | null }>(
  repository: string,
  wanted: string | null,
  files: readonly File[],
): Choice<File> {
  const ggufs = files.filter(({ path }) => isGgufPath(path));
  const models = ggufs.filter(({ path }) => !NO_MODEL.test(path));
  const exact = ggufs.filter(({ path }) => path === wanted);
  const matching =
    exact.length > 0 ? exact : models.filter(({ path }) => wanted === null || isOf(path, wanted));
  const chosen = matching.filter(({ path }) => !PART.test(path));
  if (chosen.length === 1) return { files: chosen, gguf: chosen[0].path };
  if (chosen.length > 1) {
    const what = `${repository} has several GGUF files; name one, as ${repository}:${chosen[0].path}`;
    throw new SgemoeError('SGEMOE_HUB_FILES', `${what}. There is ${listed(chosen)}.`);
  }
  if (matching.length > 0) {
    const what = `${repository}: ${matching[0].path} is a part of a GGUF split into several files, which sgemoe doesn't read`;
    throw new SgemoeError('SGEMOE_HUB_FILES', `${what}; llama-gguf-split --merge joins them.`);
  }
  if (wanted !== null) {
    const near = closest(
      wanted,
      models.map(({ path }) => path),
      LISTED,
    );
    const there = near.length === 0 ? 'no GGUF file' : near.join(', ');
    throw new SgemoeError(
      'SGEMOE_HUB_NOT_FOUND',
      `${repository} has no GGUF file '${wanted}'; there is ${there}.`,
    );
  }
  const needs = `a ${CONFIG_FILE} with ${WEIGHTS_FILE} (or shards with ${INDEX_FILE}), or a GGUF file`;
  throw new SgemoeError('SGEMOE_HUB_FILES', `${repository} has nothing that sgemoe reads: ${needs}.`);
}

/** Whether a file's name, or its folder's, ends in a quantization: 'model-Q4_K_M.gguf' is of 'q4_k_m', not of 'k_m'. */
function isOf(path: string, quantization: string): boolean {
  const name = quantization.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`(^|[-./])${name}((-\\d{5}-of-\\d{5})?\\.gguf$|/)`, 'i').test(path);
}

function listed(files: readonly { readonly path: string; readonly size: number | null }[]): string {
  const shown = files
    .slice(0, LISTED)
    .map(({ path, size }) => (size === null ? path : `${path} (${formatBytes(size)})`));
  const more = files.length > LISTED ? ` and ${files.length - LISTED} more` : '';
  return `${shown.join(', ')}${more}`;
}
