import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { checkOptions } from '../../base/checks';
import { SgemoeError } from '../../base/errors';
import { FolderLock, LOCK_FILE } from '../../checkpoint/folderLock';
import { jsonFile } from '../../checkpoint/jsonFile';
import { type NewFile, syncFolder } from '../../checkpoint/replaceFiles';
import { writeChunks } from '../../checkpoint/safetensors';
import { tokenizerFiles } from '../../checkpoint/tokenizerFiles';
import { separatorOf } from '../dataset';
import { listTextFiles, readChunks } from '../files';
import { cutStream } from '../pieces';
import { tokenizerHash } from '../readTokenizer';
import type { Tokenizer } from '../tokenizer';
import {
  BYTES_PER_TOKEN,
  type DatasetHeader,
  HEADER_FILE,
  isPreparedDataset,
  newHeader,
  tokenTypeFor,
} from './header';

export interface PrepareOptions {
  tokenizer: Tokenizer;
  /** Folder of the data set; it and missing parents are made. */
  out: string;
  /** Share of the tokens, at the end of the stream, used for validation, in [0, 1). Default 0.1. */
  validationFraction?: number | undefined;
  /** Endings such as '.md' that files found in a folder must have. Default: any. Named files are always read. */
  extensions?: readonly string[] | undefined;
  /** Whether to replace a data set in `out`. Default false, which refuses `out`. */
  overwrite?: boolean | undefined;
  /** Called with the state after each piece of text. */
  onProgress?: ((progress: PrepareProgress) => void) | undefined;
  /** Called when a lock that another process left behind is taken over. */
  onNote?: ((note: string) => void) | undefined;
  /** Stops the preparation; the signal's reason is thrown and nothing is left behind. */
  signal?: AbortSignal | undefined;
}

export interface PrepareProgress {
  /** Bytes of the files read so far. */
  bytes: number;
  tokens: number;
  documents: number;
}

/** Tokens copied at a time from one split to the other. */
const COPIED_TOKENS = 2 ** 16;

/**
 * Tokenizes files and folders into a data set on the disk, in the layout of nanoGPT: train.bin and val.bin hold the ids,
 * uint16 up to a vocabulary of 65,536, else uint32, little-endian, and nothing else; beside them meta.json and the
 * tokenizer. The tokens are those of `TextDataset.fromPaths`: documents (files) in order, an end-of-text token between
 * them, the last floor(N * validationFraction) of N tokens for validation.
 *
 * Files are read in pieces, so memory doesn't grow with the data, except for a tokenizer that must see whole documents (one
 * that isn't byte-level). `out` appears whole or not at all: it is written beside, flushed and renamed. With `overwrite` the
 * old data set is renamed, and removed once the new one is in place. A lock file beside `out` keeps other processes away.
 *
 * @throws SgemoeError SGEMOE_DATA_NOT_FOUND as `TextDataset.fromPaths`; SGEMOE_DATA_WRITE if `out` is taken or can't be
 * written; SGEMOE_FOLDER_LOCKED if another process writes there; the signal's reason.
 */
export async function prepareDataset(
  paths: string | readonly string[],
  options: PrepareOptions,
): Promise<DatasetHeader> {
  const validationFraction = checkPrepare(options);
  const { overwrite = false, extensions, onNote } = options;
  const out = resolve(options.out);
  await checkTarget(out, overwrite);
  const files = await listTextFiles(typeof paths === 'string' ? [paths] : paths, extensions);
  const lock = await lockBeside(out);
  try {
    if (lock.note !== null) onNote?.(lock.note);
    // Another process may have written before the lock was ours.
    await checkTarget(out, overwrite);
    return await prepare(out, files, { ...options, validationFraction });
  } finally {
    await lock.release();
  }
}

/** Path of the lock file, which lies beside the folder, since the folder is replaced as a whole. */
function lockBeside(out: string): Promise<FolderLock> {
  return FolderLock.acquire(`${out}${LOCK_FILE}`, 'data prepare').catch((cause) => {
    throw cause instanceof SgemoeError
      ? cause
      : writeError(`${out} can't be written: ${cause.message}`, cause);
  });
}

async function prepare(
  out: string,
  files: readonly string[],
  options: PrepareOptions & { validationFraction: number },
): Promise<DatasetHeader> {
  const { tokenizer, signal } = options;
  const staging = `${out}.preparing-${process.pid}-${Date.now()}`;
  try {
    await mkdir(staging);
    const header = await writeTokens(staging, files, options);
    const beside = [...tokenizerFiles(tokenizer.files()), jsonFile(HEADER_FILE, header)];
    for (const file of beside) await writeFlushed(staging, file);
    await syncFolder(staging);
    await putInPlace(staging, out);
    return header;
  } catch (cause) {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
    if (signal?.aborted || cause instanceof SgemoeError || !('code' in (cause as Error))) throw cause;
    throw writeError(
      `${out} could not be written, what was there is untouched: ${(cause as Error).message}`,
      cause,
    );
  }
}

/** Writes train.bin and val.bin. */
async function writeTokens(
  staging: string,
  files: readonly string[],
  options: PrepareOptions & { validationFraction: number },
): Promise<DatasetHeader> {
  const { tokenizer, validationFraction } = options;
  const train = await open(join(staging, 'train.bin'), 'wx+');
  try {
    const encoder = new DocumentEncoder(train, tokenizer);
    const textBytes = await encoder.encodeFiles(files, options);
    const { tokens, documents } = encoder;
    const trainTokens = tokens - Math.floor(tokens * validationFraction);
    const moved = { from: trainTokens, to: tokens };
    const movedBytes = await splitOff(train, join(staging, 'val.bin'), tokenizer, moved);
    return newHeader({
      vocab_size: tokenizer.vocabSize,
      end_of_text: tokenizer.endOfText,
      tokenizer_sha256: tokenizerHash(tokenizer),
      documents,
      train: { file: 'train.bin', tokens: trainTokens, bytes: textBytes - movedBytes },
      validation: { file: 'val.bin', tokens: tokens - trainTokens, bytes: movedBytes },
    });
  } finally {
    await train.close();
  }
}

function checkPrepare(options: PrepareOptions): number {
  const known = [
    'tokenizer',
    'out',
    'validationFraction',
    'extensions',
    'overwrite',
    'onProgress',
    'onNote',
    'signal',
  ];
  checkOptions('prepareDataset', options, known);
  if (typeof options.out !== 'string' || options.out === '') {
    throw new TypeError(`prepareDataset: out must be a path, got ${options.out}`);
  }
  const { validationFraction = 0.1 } = options;
  if (validationFraction >= 0 && validationFraction < 1) return validationFraction;
  throw new RangeError(`validationFraction must be in [0, 1), got ${String(validationFraction)}`);
}

/** @throws SgemoeError SGEMOE_DATA_WRITE unless `out` is a new path, an empty folder or, with `overwrite`, a data set. */
export async function checkTarget(out: string, overwrite: boolean): Promise<void> {
  const entries = await readdir(out).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw writeError(`${out} can't be used: ${error.message}`, error);
  });
  if (entries.length === 0) return;
  if (!(await isPreparedDataset(out))) {
    throw writeError(
      `${out} is not empty and holds no data set; choose a new folder, so that nothing in it is lost`,
    );
  }
  if (!overwrite) throw writeError(`${out} holds a data set already; it is replaced with "overwrite" only`);
}

/** Encodes documents into a file of tokens. */
class DocumentEncoder {
  tokens = 0;
  documents = 0;
  readonly #writer: FileHandle;
  readonly #tokenizer: Tokenizer;
  readonly #pack: (ids: Int32Array) => Uint8Array;

  constructor(writer: FileHandle, tokenizer: Tokenizer) {
    this.#writer = writer;
    this.#tokenizer = tokenizer;
    this.#pack = packerFor(tokenizer.vocabSize);
  }

  /** Finishes the file and returns the bytes of text that all tokens stand for. */
  async encodeFiles(files: readonly string[], { onProgress, signal }: PrepareOptions): Promise<number> {
    const separator = separatorOf(this.#tokenizer);
    let texts = 0;
    let bytes = 0;
    for (const file of files) {
      let isFirst = true;
      for await (const piece of this.#pieces(file)) {
        signal?.throwIfAborted();
        if (isFirst && this.documents++ > 0) texts += await this.#write(separator);
        isFirst = false;
        texts += await this.#write(this.#tokenizer.encode(piece));
        bytes += piece.length;
        onProgress?.({ bytes, tokens: this.tokens, documents: this.documents });
        await setImmediate();
      }
    }
    return texts;
  }

  async #write(ids: Int32Array): Promise<number> {
    await writeChunks(this.#writer, [this.#pack(ids)]);
    this.tokens += ids.length;
    return this.#tokenizer.countBytes(ids);
  }

  async *#pieces(file: string): AsyncGenerator<Uint8Array, void> {
    if (this.#tokenizer.piecewise) {
      yield* cutStream(readChunks(file));
      return;
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of readChunks(file)) chunks.push(chunk);
    if (chunks.length > 0) yield Buffer.concat(chunks);
  }
}

/** Moves the last tokens to their own file, flushes both files, and returns the bytes of text that were moved. */
async function splitOff(
  train: FileHandle,
  path: string,
  tokenizer: Tokenizer,
  { from, to }: { from: number; to: number },
): Promise<number> {
  const type = tokenTypeFor(tokenizer.vocabSize);
  const size = BYTES_PER_TOKEN[type];
  const validation = await open(path, 'wx');
  let textBytes = 0;
  try {
    for (let start = from; start < to; start += COPIED_TOKENS) {
      const buffer = Buffer.alloc(Math.min(COPIED_TOKENS, to - start) * size);
      await readFully(train, buffer, start * size);
      await writeChunks(validation, [buffer]);
      const ids = Array.from({ length: buffer.length / size }, (_, i) =>
        type === 'uint16' ? buffer.readUInt16LE(2 * i) : buffer.readUInt32LE(4 * i),
      );
      textBytes += tokenizer.countBytes(ids);
    }
    await train.truncate(from * size);
    await train.sync();
    await validation.sync();
  } finally {
    await validation.close();
  }
  return textBytes;
}

async function readFully(file: FileHandle, buffer: Buffer, position: number): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) throw writeError('the file of tokens became shorter while it was written');
    done += bytesRead;
  }
}

function packerFor(vocabSize: number): (ids: Int32Array) => Uint8Array {
  const size = BYTES_PER_TOKEN[tokenTypeFor(vocabSize)];
  return (ids) => {
    const bytes = Buffer.alloc(ids.length * size);
    if (size === 2) for (let i = 0; i < ids.length; i++) bytes.writeUInt16LE(ids[i], 2 * i);
    else for (let i = 0; i < ids.length; i++) bytes.writeUInt32LE(ids[i], 4 * i);
    return bytes;
  };
}

async function writeFlushed(folder: string, { name, write }: NewFile): Promise<void> {
  const path = join(folder, name);
  const handle = await open(path, 'wx');
  try {
    await write(handle, path);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Gives the finished folder its name. A data set of that name is moved away before and removed afterwards. */
async function putInPlace(staging: string, out: string): Promise<void> {
  const old = `${out}.replaced-${basename(staging).split('.preparing-')[1]}`;
  const isEmpty = await rmdir(out).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  );
  if (!isEmpty) await rename(out, old);
  try {
    await rename(staging, out);
  } catch (error) {
    if (!isEmpty) await rename(old, out);
    throw error;
  }
  await syncFolder(dirname(out));
  // The new data set is in place, so a failure to remove the old one is no error.
  await rm(old, { recursive: true, force: true }).catch(() => undefined);
}

function writeError(what: string, cause?: unknown): SgemoeError {
  return new SgemoeError('SGEMOE_DATA_WRITE', `${what}.`, { cause });
}
