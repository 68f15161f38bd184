import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { checkOptions } from '../../base/checks';

/** How far a download is. */
export interface PullProgress {
  /** The file that is being downloaded, by its path in the repository. */
  readonly file: string;
  /** Bytes of all files of the model that are here, and that there are. */
  readonly bytes: number;
  readonly totalBytes: number;
}

/** Where models of the hub come from and go to. The variables are those of Python's `huggingface_hub`. */
export interface HubOptions {
  /** A branch, a tag or a commit. Default: that of the name, else 'main'. */
  revision?: string | undefined;
  /** Takes what the cache folder has, without a request. Default: HF_HUB_OFFLINE. */
  offline?: boolean | undefined;
  /** URL of the hub. Default: HF_ENDPOINT, else https://huggingface.co. */
  endpoint?: string | undefined;
  /**
   * Access token, which is sent to `endpoint` only; null for none. Default: HF_TOKEN, else the text of the file HF_TOKEN_PATH,
   * by default `token` in HF_HOME.
   */
  token?: string | null | undefined;
  /** Cache folder. Default: HF_HUB_CACHE, else `hub` in HF_HOME, which is ~/.cache/huggingface by default. */
  cacheDir?: string | undefined;
  /** Milliseconds without a byte after which a request is made again, an integer >= 1. Default 30,000. */
  stallTimeoutMs?: number | undefined;
  /** Called while files are downloaded. */
  onProgress?: ((progress: PullProgress) => void) | undefined;
  /** Called with a sentence for each thing worth telling, such as what is downloaded and where to. Default: nothing is told. */
  onNote?: ((note: string) => void) | undefined;
  /** Stops the download. What has arrived stays, and the next call goes on from there. */
  signal?: AbortSignal | undefined;
}

const KNOWN: readonly (keyof HubOptions)[] = [
  'revision',
  'offline',
  'endpoint',
  'token',
  'cacheDir',
  'stallTimeoutMs',
  'onProgress',
  'onNote',
  'signal',
];

/** The options with defaults filled in. */
export interface HubSettings extends Pick<HubOptions, 'onProgress' | 'signal'> {
  readonly offline: boolean;
  /** URL without a '/' at its end. */
  readonly endpoint: string;
  readonly token: string | null;
  readonly cacheDir: string;
  readonly stallTimeoutMs: number;
  readonly onNote: (note: string) => void;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws TypeError or RangeError for an option, or a variable, that can't be used. */
export async function hubSettings(options: HubOptions, env: Environment): Promise<HubSettings> {
  checkOptions('pull', options, KNOWN);
  const { stallTimeoutMs = 30_000, onNote = () => undefined, onProgress, signal } = options;
  if (!Number.isSafeInteger(stallTimeoutMs) || stallTimeoutMs < 1 || stallTimeoutMs >= 2 ** 31) {
    throw new RangeError(`pull: stallTimeoutMs must be an integer >= 1, got ${stallTimeoutMs}`);
  }
  const home = inHome(env, env.HF_HOME || join(env.XDG_CACHE_HOME || '~/.cache', 'huggingface'));
  const cache = options.cacheDir ?? (env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub'));
  return {
    offline: options.offline ?? isTrue(env.HF_HUB_OFFLINE),
    endpoint: endpointOf(options.endpoint ?? (env.HF_ENDPOINT || 'https://huggingface.co')),
    token: checkToken(options.token === undefined ? await storedToken(env, home) : options.token),
    cacheDir: inHome(env, cache),
    stallTimeoutMs,
    onNote,
    onProgress,
    signal,
  };
}

function isTrue(value = ''): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes(value.toUpperCase());
}

function inHome(env: Environment, path: string): string {
  return /^~(?=$|[\\/])/.test(path) ? join(env.HOME || homedir(), path.slice(1)) : path;
}

function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isHttp = url?.protocol === 'https:' || url?.protocol === 'http:';
  // The text isn't shown: it may hold a password.
  if (!isHttp || url.username !== '' || url.password !== '') {
    throw new RangeError(
      'pull: endpoint (HF_ENDPOINT) must be an http or https URL without user and password',
    );
  }
  return text.replace(/\/+$/, '');
}

async function storedToken(env: Environment, home: string): Promise<string | null> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return null;
  const given = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || '').trim();
  if (given !== '') return given;
  const path = inHome(env, env.HF_TOKEN_PATH || join(home, 'token'));
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim() || null;
}

/** A token with other characters can't be sent, and fetch would show it in its error. */
function checkToken(token: string | null): string | null {
  if (token === null || (typeof token === 'string' && /^[\x21-\x7e]+$/.test(token))) return token;
  throw new RangeError('pull: token (HF_TOKEN) must be printable ASCII without spaces');
}
