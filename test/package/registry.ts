/** A registry with a few packed packages on loopback, for the package managers of the tests. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { packedFile, ROOT, succeed } from './project';

export interface Registry {
  url: string;
  close(): void;
}

/** Serves these tarballs; each is asked for under the name and version of the package.json in `manifests`. */
export async function startRegistry(packages: readonly PackedPackage[]): Promise<Registry> {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url as string, 'http://localhost').pathname).slice(1);
    const found = packages.find(({ manifest, file }) => path === manifest.name || path === `-/${file}`);
    if (found === undefined) {
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not_found"}');
    } else if (path.startsWith('-/')) {
      response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(found.content);
    } else {
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify(document(found, url)));
    }
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return { url, close: () => server.close().closeAllConnections() };
}

interface Manifest {
  name: string;
  version: string;
}

export interface PackedPackage {
  manifest: Manifest;
  file: string;
  content: Buffer;
}

/** A registry's answer about a package. The date is old, since some managers refuse packages of the last days. */
function document({ manifest, file, content }: PackedPackage, url: string): object {
  const hash = (name: string, encoding: 'hex' | 'base64') =>
    createHash(name).update(content).digest(encoding);
  const dist = {
    tarball: `${url}-/${file}`,
    shasum: hash('sha1', 'hex'),
    integrity: `sha512-${hash('sha512', 'base64')}`,
  };
  const published = '2020-01-01T00:00:00.000Z';
  return {
    name: manifest.name,
    'dist-tags': { latest: manifest.version },
    versions: { [manifest.version]: { ...manifest, dist } },
    time: { created: published, modified: published, [manifest.version]: published },
  };
}

/** A package of the clone's node_modules, packed again: an installation then needs no network. */
export async function packDependency(name: string, folder: string): Promise<PackedPackage> {
  const home = join(ROOT, 'node_modules', name);
  mkdirSync(folder, { recursive: true });
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder, home];
  const { filename } = packedFile((await succeed('npm', args, folder)).stdout);
  return readPackage(join(home, 'package.json'), join(folder, filename));
}

export function readPackage(manifest: string, tarball: string): PackedPackage {
  const content = readFileSync(tarball);
  const parsed = JSON.parse(readFileSync(manifest, 'utf8')) as Manifest;
  return { manifest: parsed, file: `${parsed.name.replace('/', '-')}-${parsed.version}.tgz`, content };
}
