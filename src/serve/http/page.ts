import { extname } from 'node:path';
import { pageFiles } from './pageFiles';

export interface PageFile {
  /** The URL path. */
  path: string;
  type: string;
  content: Buffer;
}

const START = 'index.html';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
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

/** Reads the files of the page, so that a request never names a file. */
export function readPlayground(): PageFile[] {
  return Object.entries(pageFiles()).map(([name, text]) => ({
    path: name === START ? '/' : `/${name}`,
    type: TYPES[extname(name)],
    content: Buffer.from(text),
  }));
}
