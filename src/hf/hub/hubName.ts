/** What a name of the hub means: `org/name`, `org/name@revision`, `org/name:file.gguf`, `org/name:Q4_K_M`. */
export interface HubName {
  /** 'org/name' */
  readonly repository: string;
  /** A branch, a tag or a commit; null where the name has none. */
  readonly revision: string | null;
  /** A GGUF file of the repository, or a quantization such as 'Q4_K_M'; null where the name has none. */
  readonly file: string | null;
  /** Whether the name begins with the hub's own, `hf.co/`, so that it can't be meant as a path. */
  readonly isExplicit: boolean;
}

const NAME = /^(hf\.co\/|huggingface\.co\/)?([\w.-]{1,96}\/[\w.-]{1,96})(?:@([^@:]+))?(?::([^@:]+))?$/;

/** Null for a text that can't be a name of the hub, such as most paths. */
export function parseHubName(text: string): HubName | null {
  const [, host, repository, revision = null, file = null] = NAME.exec(text) ?? [];
  if (repository === undefined || !repository.split('/').every(isRepositoryPart)) return null;
  if (revision !== null && !isPlainPath(revision)) return null;
  if (file !== null && !isPlainPath(file)) return null;
  return { repository, revision, file, isExplicit: host !== undefined };
}

/** The hub's rule for the names of owners and repositories. */
function isRepositoryPart(part: string): boolean {
  return /^\w(.*\w)?$/.test(part) && !/--|\.\.|\.git$/.test(part);
}

/** Whether a path with '/' stays inside its folder on every system. */
export function isPlainPath(path: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no file of a model has one.
  if (/[\\:\x00-\x1f\x7f]/.test(path)) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}
