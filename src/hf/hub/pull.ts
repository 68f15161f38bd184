import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { SgemoeError } from '../../base/errors';
import { formatBytes } from '../../base/formatBytes';
import { boolean, checkValue } from '../../base/options';
import { isGgufPath } from '../../checkpoint/gguf/ggufFile';
import { makeFolder } from '../../checkpoint/makeFolder';
import { systemReason } from '../../checkpoint/replaceFiles';
import { shardsOfIndex } from '../../checkpoint/shards';
import { type Choice, chooseFiles, chooseTokenizer } from './chooseFiles';
import { type Download, downloadBlob } from './download';
import { RepositoryCache } from './hubCache';
import { type HubName, parseHubName } from './hubName';
import { type Environment, type HubOptions, type HubSettings, hubSettings } from './hubOptions';
import { type ListedFile, type Listing, type RemoteFile, Repository } from './repository';
import { HubRequests } from './requests';

export interface PullOptions extends HubOptions {
  /** Downloads the files of the tokenizer only; of a GGUF file, which has it inside, all. Default false. */
  tokenizerOnly?: boolean | undefined;
}

/**
 * Downloads a model of Hugging Face's hub into the cache folder that Python's `huggingface_hub` has too, and returns the path
 * to load: the folder of its snapshot, or a GGUF file in it. What is there already isn't downloaded again, and a download that
 * was interrupted goes on where it ended. Every file is checked against the hub's checksum.
 *
 * @param name 'org/name' takes the safetensors with config and tokenizer, or the only GGUF file; 'org/name:file.gguf' and
 * 'org/name:Q4_K_M' take a GGUF file by its name or its quantization; '@revision' may stand before the colon.
 * @throws TypeError or RangeError for a name or an option that can't be used; SgemoeError SGEMOE_HUB_NOT_FOUND,
 * SGEMOE_HUB_FILES, SGEMOE_HUB_ACCESS, SGEMOE_HUB_UNREACHABLE, SGEMOE_HUB_DAMAGED or SGEMOE_HUB_WRITE; the signal's reason.
 */
export function pull(name: string, options: PullOptions = {}): Promise<string> {
  return pullFrom(name, options, process.env);
}

/** As `pull`, with the variables of another environment. */
export async function pullFrom(name: string, options: PullOptions, env: Environment): Promise<string> {
  const { tokenizerOnly = false, ...hub } = options;
  checkValue('pull: tokenizerOnly', boolean({ doc: '' }), tokenizerOnly);
  const hubName = typeof name === 'string' ? parseHubName(name) : null;
  if (hubName === null) {
    throw new RangeError(
      `pull: name must be org/name, org/name:file or org/name@revision, got ${String(name)}`,
    );
  }
  const settings = await hubSettings(hub, env);
  const choose = tokenizerOnly ? chooseTokenizer : chooseFiles;
  return new Pull(hubName, revisionOf(hubName, hub), settings, choose).run();
}

function revisionOf({ revision: named }: HubName, { revision: given }: HubOptions): string {
  const revision = given ?? named ?? 'main';
  if (parseHubName(`a/b@${revision}`) === null) {
    throw new RangeError(`pull: revision must be a branch, a tag or a commit, got ${String(revision)}`);
  }
  if (named === null || named === revision) return revision;
  throw new RangeError(`pull: the name asks for revision ${named}, the options for ${revision}`);
}

/** Tries to ask the hub when the cache has a copy to fall back on. */
const TRIES_WITH_COPY = 2;

class Pull {
  readonly #cache: RepositoryCache;
  readonly #repository: Repository;

  constructor(
    private readonly name: HubName,
    private readonly revision: string,
    private readonly settings: HubSettings,
    private readonly choose: typeof chooseFiles,
  ) {
    this.#cache = new RepositoryCache(settings.cacheDir, name.repository);
    this.#repository = new Repository(new HubRequests(settings), settings, name, revision);
  }

  async run(): Promise<string> {
    const { offline, cacheDir } = this.settings;
    if (offline) {
      const cached = await this.#cached();
      if (cached !== null) return cached;
      const what = `${this.name.repository} (revision ${this.revision}) is not, or not whole, in ${cacheDir}`;
      throw new SgemoeError('SGEMOE_HUB_NOT_FOUND', `${what}, and offline nothing is downloaded.`);
    }
    const listing = await this.#list();
    if (typeof listing === 'string') return listing;
    try {
      return await this.#take(listing);
    } catch (cause) {
      // Of the system's errors all but those of connections, which `retrying` has told, come from the cache folder.
      if (cause instanceof SgemoeError || (cause as NodeJS.ErrnoException | null)?.syscall === undefined)
        throw cause;
      const what = `The cache folder ${cacheDir} can't be written: ${systemReason(cause)}`;
      throw new SgemoeError('SGEMOE_HUB_WRITE', `${what}. What has arrived is kept.`, { cause });
    }
  }

  /** The files of the revision; if the hub can't be reached and the cache has the model, its path there. */
  async #list(): Promise<Listing | string> {
    const cached = await this.#cached();
    try {
      return await this.#repository.list(cached === null ? undefined : TRIES_WITH_COPY);
    } catch (error) {
      const isDown = error instanceof SgemoeError && error.code === 'SGEMOE_HUB_UNREACHABLE';
      if (!isDown || cached === null) throw error;
      this.settings.onNote(`${error.message} The copy in the cache is used.`);
      return cached;
    }
  }

  /** The path of the model in the cache; null if it isn't there whole. */
  async #cached(): Promise<string | null> {
    const commit = await this.#cache.commitOf(this.revision);
    if (commit === null) return null;
    const folder = this.#cache.snapshot(commit);
    const files = await this.#cache.files(commit);
    try {
      const { gguf } = await this.choose(this.name, files, ({ path }) => shardsOfIndex(join(folder, path)));
      return gguf === null ? folder : join(folder, gguf);
    } catch (error) {
      // Offline nobody else can tell the user to choose.
      const isChoice = this.settings.offline && files.some(({ path }) => isGgufPath(path));
      if (error instanceof SgemoeError && !(isChoice && error.code === 'SGEMOE_HUB_FILES')) return null;
      throw error;
    }
  }

  /** Downloads what the cache lacks, and returns the path. */
  async #take({ commit, files }: Listing): Promise<string> {
    const remote = (file: ListedFile) => this.#repository.complete(file, commit);
    const choice: Choice<ListedFile> = await this.choose(this.name, files, async (index) => {
      await this.#downloadAll([await remote(index)], commit);
      return shardsOfIndex(join(this.#cache.snapshot(commit), index.path));
    });
    const all: RemoteFile[] = [];
    for (const file of choice.files) all.push(await remote(file));
    await this.#downloadAll(all, commit, true);
    await this.#cache.setCommit(this.revision, commit);
    const folder = this.#cache.snapshot(commit);
    return choice.gguf === null ? folder : join(folder, choice.gguf);
  }

  async #downloadAll(files: readonly RemoteFile[], commit: string, isTold = false): Promise<void> {
    const missing: RemoteFile[] = [];
    for (const file of files) if (!(await this.#cache.isInSnapshot(file, commit))) missing.push(file);
    if (missing.length === 0) return;
    const totalBytes = sumOf(files);
    const missingBytes = sumOf(missing);
    await makeFolder(this.settings.cacheDir);
    await this.#requireSpace(missing);
    if (isTold) this.#tell(missing.length, missingBytes, commit);
    let bytes = totalBytes - missingBytes;
    for (const file of missing) {
      const onBytes = (done: number) =>
        this.settings.onProgress?.({ file: file.path, bytes: bytes + done, totalBytes });
      const download: Download = {
        repository: this.#repository,
        commit,
        cache: this.#cache,
        settings: this.settings,
        onBytes,
      };
      const isNew = await downloadBlob(file, download);
      if (!(await this.#cache.isInSnapshot(file, commit)))
        await this.#cache.addToSnapshot(file, commit, isNew);
      onBytes(file.size);
      bytes += file.size;
    }
  }

  #tell(count: number, bytes: number, commit: string): void {
    const { endpoint, cacheDir } = this.settings;
    const what = `${this.name.repository} at ${commit.slice(0, 7)}, ${count === 1 ? '1 file' : `${count} files`}`;
    this.settings.onNote(`Downloading ${what} of ${formatBytes(bytes)}, from ${endpoint} to ${cacheDir}`);
  }

  /** @throws SgemoeError SGEMOE_HUB_WRITE if the disk has less room than the files need. */
  async #requireSpace(files: readonly RemoteFile[]): Promise<void> {
    const { cacheDir } = this.settings;
    const space = await statfs(cacheDir).catch(() => null);
    // Some network drives tell 0 blocks.
    if (space === null || space.blocks === 0) return;
    let needed = 0;
    for (const file of files) {
      const here = await stat(this.#cache.partial(file)).catch(() => null);
      if (!(await this.#cache.hasBlob(file))) needed += file.size - (here?.size ?? 0);
    }
    const free = space.bavail * space.bsize;
    if (needed <= free) return;
    const what = `${this.name.repository} needs ${formatBytes(needed)}, ${cacheDir} has room for ${formatBytes(free)}`;
    throw new SgemoeError('SGEMOE_HUB_WRITE', `${what}; HF_HUB_CACHE names another folder.`);
  }
}

function sumOf(files: readonly RemoteFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}
