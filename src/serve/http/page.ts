import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';

export interface PageFile {
  /** Where it is served. */
  path: string;
  type: string;
  content: Buffer;
}

const FOLDER = join(__dirname, '..', 'page');
const START = 'index.html';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
};

export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    ...[
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self'",
      "connect-src 'self'",
    ],
    ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
};

/** The files of the page, read once: what a request says never names a file. None when the package came without it. */
export function readPlayground(): PageFile[] {
  if (!existsSync(join(FOLDER, START))) return [];
  return readdirSync(FOLDER)
    .filter((name) => extname(name) in TYPES)
    .map((name) => ({
      path: name === START ? '/' : `/${name}`,
      type: TYPES[extname(name)],
      content: readFileSync(join(FOLDER, name)),
    }));
}
