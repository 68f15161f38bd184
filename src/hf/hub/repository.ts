import { SgemoeError } from '../../base/errors';
import { isObject } from '../../checkpoint/safetensorsHeader';
import { closest } from './closest';
import type { HubName } from './hubName';
import { isPlainPath } from './hubName';
import type { HubSettings } from './hubOptions';
import { type HubRequests, RefusedRequest, retrying } from './requests';

/** A file of a repository. */
export interface ListedFile {
  /** Its path in the repository, with '/'. */
  readonly path: string;
  /** Its bytes; null where the list doesn't say. */
  readonly size: number | null;
  /** Its checksum, which names it in the cache; null where the list doesn't say. */
  readonly hash: string | null;
}

/** A file that can be downloaded and checked. */
export interface RemoteFile extends ListedFile {
  readonly size: number;
  /** In hexadecimal: SHA-256 of the content (64 digits) or git's SHA-1 of it (40 digits). */
  readonly hash: string;
}

/** What a revision of a repository holds. */
export interface Listing {
  /** The commit, 40 hexadecimal digits. */
  readonly commit: string;
  readonly files: readonly ListedFile[];
}

const COMMIT = /^[0-9a-f]{40}$/;
const CHECKSUM = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** A repository on the hub, at one revision. */
export class Repository {
  constructor(
    readonly requests: HubRequests,
    private readonly settings: HubSettings,
    private readonly name: HubName,
    private readonly revision: string,
  ) {}

  /**
   * Asks for the commit and the files. Files whose path would leave the snapshot's folder are left out.
   * @throws SgemoeError SGEMOE_HUB_NOT_FOUND, SGEMOE_HUB_ACCESS, SGEMOE_HUB_UNREACHABLE
   */
  async list(tries?: number): Promise<Listing> {
    const { repository } = this.name;
    const path = `/api/models/${repository}/revision/${encodeURIComponent(this.revision)}?blobs=true`;
    const answer = await this.#explaining(() => this.requests.json(path, tries));
    const { sha, siblings } = isObject(answer) ? answer : {};
    if (typeof sha !== 'string' || !isCommit(sha) || !Array.isArray(siblings)) {
      const what = `${this.settings.endpoint} doesn't answer as a hub does: no commit or no files of ${repository}.`;
      throw new SgemoeError('SGEMOE_HUB_UNREACHABLE', what);
    }
    return { commit: sha, files: siblings.flatMap((each: unknown) => listedFile(each) ?? []) };
  }

  /**
   * Asks for size and checksum of a file where the list has none, as lists of mirrors do.
   * @throws SgemoeError as `list`, SGEMOE_HUB_DAMAGED for a file without them.
   */
  async complete(file: ListedFile, commit: string): Promise<RemoteFile> {
    let { size, hash } = file;
    if (size === null || hash === null) {
      const headers = await this.#explaining(() => this.#headersOf(file.path, commit));
      const tag = headers.get('x-linked-etag') ?? headers.get('etag') ?? '';
      hash = tag.replace(/^W\/|"/g, '').toLowerCase();
      size = sizeOf(headers.get('x-linked-size') ?? headers.get('content-length'));
    }
    if (size !== null && CHECKSUM.test(hash)) return { path: file.path, size, hash };
    const what = `${this.settings.endpoint} tells no size or no checksum of ${file.path}, so it can't be checked.`;
    throw new SgemoeError('SGEMOE_HUB_DAMAGED', what);
  }

  /** The path of a file's content on the hub. */
  contentPath(file: string, commit: string): string {
    const parts = file.split('/').map(encodeURIComponent).join('/');
    return `/${this.name.repository}/resolve/${commit}/${parts}`;
  }

  /** Turns a refusal of a job's requests into an error that says what to do. */
  async #explaining<T>(job: () => Promise<T>): Promise<T> {
    try {
      return await job();
    } catch (error) {
      if (error instanceof RefusedRequest) throw await this.explain(error);
      throw error;
    }
  }

  async #headersOf(path: string, commit: string): Promise<Headers> {
    return retrying(this.settings, async () => {
      const answer = await this.requests.send('HEAD', this.contentPath(path, commit), {}, true);
      await answer.discard();
      return answer.headers;
    });
  }

  /** The error that a refusal means. The hub answers 401, not 404, to strangers who ask for what isn't there. */
  async explain(refusal: RefusedRequest): Promise<SgemoeError> {
    const { endpoint, token } = this.settings;
    const { repository } = this.name;
    const { status, reason, explanation } = refusal;
    const error = (code: ConstructorParameters<typeof SgemoeError>[0], what: string) =>
      new SgemoeError(code, what, { cause: refusal });
    if (reason === 'RevisionNotFound') {
      const names = await this.#revisions();
      return error('SGEMOE_HUB_NOT_FOUND', `${repository} has no revision '${this.revision}'${names}.`);
    }
    if (reason === 'GatedRepo') {
      const terms = `${repository} is gated: accept its terms at ${endpoint}/${repository}`;
      const next =
        token === null ? ', and set HF_TOKEN to a token of your account' : ' with the account of your token';
      return error('SGEMOE_HUB_ACCESS', `${terms}${next}.`);
    }
    if (status === 401 && token !== null && reason !== 'RepoNotFound') {
      return error('SGEMOE_HUB_ACCESS', `${endpoint} refuses the token (HF_TOKEN, or the token file).`);
    }
    if (status === 401 || status === 404) {
      const secret =
        token === null ? 'private, which needs a token (HF_TOKEN)' : 'private and not for your token';
      const what = `${endpoint} has no model ${repository}, or it is ${secret}${await this.#similar()}.`;
      return error('SGEMOE_HUB_NOT_FOUND', what);
    }
    if (status === 403) {
      return error(
        'SGEMOE_HUB_ACCESS',
        `${endpoint} forbids access to ${repository}${explanation && `: ${explanation}`}.`,
      );
    }
    return error('SGEMOE_HUB_UNREACHABLE', `${endpoint} can't give ${repository}: ${refusal.message}.`);
  }

  /** The closest names of models, for a message; '' if the hub doesn't tell any. */
  async #similar(): Promise<string> {
    const { repository } = this.name;
    const [, name] = repository.split('/');
    const found = await this.#ask(`/api/models?search=${encodeURIComponent(name)}&limit=20`);
    const ids = Array.isArray(found) ? found.map((each: unknown) => (isObject(each) ? each.id : null)) : [];
    return inWords(closest(repository, ids.filter(isText)));
  }

  async #revisions(): Promise<string> {
    const found = await this.#ask(`/api/models/${this.name.repository}/refs`);
    const { branches, tags } = isObject(found) ? found : {};
    const all = [branches, tags].flatMap((list) => (Array.isArray(list) ? list : []));
    const names = all.map((each: unknown) => (isObject(each) ? each.name : null));
    return inWords(closest(this.revision, names.filter(isText)));
  }

  /** What helps an error message only: null where it can't be had. */
  async #ask(path: string): Promise<unknown> {
    return this.requests.json(path, 1).catch(() => null);
  }
}

function inWords(names: readonly string[]): string {
  return names.length === 0 ? '' : `; there is ${names.join(', ')}`;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && /^[\w./-]{1,200}$/.test(value);
}

function listedFile(entry: unknown): ListedFile | null {
  if (!isObject(entry) || typeof entry.rfilename !== 'string' || !isPlainPath(entry.rfilename)) return null;
  const { rfilename: path, size, blobId, lfs } = entry;
  const hash = isObject(lfs) ? (lfs.sha256 ?? lfs.oid) : blobId;
  return { path, size: sizeOf(size), hash: typeof hash === 'string' && CHECKSUM.test(hash) ? hash : null };
}

function sizeOf(value: unknown): number | null {
  const size = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return typeof size === 'number' && Number.isSafeInteger(size) && size >= 0 ? size : null;
}
