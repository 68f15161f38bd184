import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';

export interface PageFile {
  /** The URL path. */
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
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
};

/** Reads the files of the page once, so that a request never names a file. Empty if the package lacks the page. */
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
