/** A hub on loopback: the list of files, redirects to a second server (as the hub's to its content network), ranges, refusals. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeRepository {
  commit: string;
  files: Record<string, Buffer>;
  /** Files in git-lfs: they have a SHA-256 and come from the second server. Default: *.safetensors and *.gguf. */
  isLfs?: (path: string) => boolean;
  /** Refuses those without this token. */
  token?: string;
  gated?: boolean;
  /** Leaves sizes and checksums out of the list, as mirrors do. */
  bare?: boolean;
}

export interface SeenRequest {
  server: 'hub' | 'cdn';
  method: string;
  url: string;
  headers: IncomingMessage['headers'];
}

type Fault = (request: SeenRequest, response: ServerResponse) => boolean;

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
export const gitSha1 = (bytes: Buffer) =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

export class FakeHub {
  readonly repositories = new Map<string, FakeRepository>();
  readonly seen: SeenRequest[] = [];
  /** Answers in place of the hub where it returns true. */
  fault: Fault = () => false;
  readonly #hub: Server;
  readonly #cdn: Server;

  constructor() {
    this.#hub = createServer((request, response) => this.#answer('hub', request, response));
    this.#cdn = createServer((request, response) => this.#answer('cdn', request, response));
  }

  async open(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    }
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  /** Forgets requests and faults. */
  reset(): void {
    this.seen.length = 0;
    this.fault = () => false;
  }

  /** The requests for the content of a file. */
  downloads(path: string): SeenRequest[] {
    return this.seen.filter(
      ({ method, url, server }) => method === 'GET' && server === this.#serverOf(path) && url.includes(path),
    );
  }

  #serverOf(path: string): 'hub' | 'cdn' {
    return isLfs(path) ? 'cdn' : 'hub';
  }

  #answer(server: SeenRequest['server'], request: IncomingMessage, response: ServerResponse): void {
    const seen = {
      server,
      method: request.method!,
      url: decodeURIComponent(request.url!),
      headers: request.headers,
    };
    this.seen.push(seen);
    if (this.fault(seen, response)) return;
    const url = new URL(request.url!, 'http://hub');
    if (server === 'cdn') {
      const [, owner, name, ...path] = url.pathname.split('/');
      sendFile(request, response, this.repositories.get(`${owner}/${name}`)!.files[path.join('/')]);
      return;
    }
    if (url.pathname === '/api/models') {
      const found = [...this.repositories.keys()].filter((id) =>
        id.includes(url.searchParams.get('search')!.slice(0, 4)),
      );
      sendJson(
        response,
        found.map((id) => ({ id })),
      );
      return;
    }
    this.#answerOfRepository(
      request,
      response,
      url.pathname
        .replace(/^\/api\/models/, '')
        .split('/')
        .slice(1),
    );
  }

  #answerOfRepository(request: IncomingMessage, response: ServerResponse, parts: string[]): void {
    const [owner, name, kind, revision, ...path] = parts;
    const repository = this.repositories.get(`${owner}/${name}`);
    if (repository === undefined) {
      refuse(response, 401, 'RepoNotFound');
    } else if (
      repository.token !== undefined &&
      request.headers.authorization !== `Bearer ${repository.token}`
    ) {
      refuse(response, 401, repository.gated ? 'GatedRepo' : 'RepoNotFound');
    } else if (kind === 'refs') {
      sendJson(response, { branches: [{ name: 'main' }], tags: [{ name: 'v1.0' }] });
    } else if (![repository.commit, 'main', 'refs/pr/1'].includes(decodeURIComponent(revision))) {
      refuse(response, 404, 'RevisionNotFound');
    } else if (kind === 'revision') {
      sendJson(response, listOf(repository));
    } else {
      this.#sendContent(request, response, repository, [owner, name, ...path]);
    }
  }

  #sendContent(
    request: IncomingMessage,
    response: ServerResponse,
    { files, commit, isLfs: lfs = isLfs }: FakeRepository,
    [owner, name, ...path]: string[],
  ): void {
    const file = path.map(decodeURIComponent).join('/');
    const bytes = files[file];
    response.setHeader('x-repo-commit', commit);
    if (bytes === undefined) {
      refuse(response, 404, 'EntryNotFound');
    } else if (lfs(file)) {
      const { port } = this.#cdn.address() as AddressInfo;
      response.writeHead(302, {
        location: `http://127.0.0.1:${port}/${owner}/${name}/${path.join('/')}?signature=abc`,
        'x-linked-size': bytes.length,
        'x-linked-etag': `"${sha256(bytes)}"`,
      });
      response.end();
    } else {
      response.setHeader('etag', `"${gitSha1(bytes)}"`);
      sendFile(request, response, bytes);
    }
  }
}

function isLfs(path: string): boolean {
  return /\.(safetensors|gguf)$/.test(path);
}

function listOf({ commit, files, isLfs: lfs = isLfs, bare = false }: FakeRepository): object {
  const siblings = Object.entries(files).map(([rfilename, bytes]) => {
    if (bare) return { rfilename };
    const common = { rfilename, size: bytes.length, blobId: gitSha1(bytes) };
    return lfs(rfilename)
      ? { ...common, lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 130 } }
      : common;
  });
  return { id: 'x', sha: commit, siblings };
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(value));
}

/** Sends a file, or the part that a Range asks for. */
export function sendFile(
  request: Pick<IncomingMessage, 'headers' | 'method'>,
  response: ServerResponse,
  bytes: Buffer,
): void {
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
  const body = from === undefined ? bytes : bytes.subarray(Number(from));
  const headers: Record<string, string | number> = { 'content-length': body.length };
  if (from !== undefined) headers['content-range'] = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
  response.writeHead(from === undefined ? 200 : 206, headers);
  response.end(request.method === 'HEAD' ? undefined : body);
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code, 'x-error-message': 'Access is refused.' });
  response.end('{"error":"refused"}');
}
