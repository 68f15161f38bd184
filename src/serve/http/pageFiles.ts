import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The files of the page, by name. In dist/ the build puts their text here in place of the reading. */
export function pageFiles(): Record<string, string> {
  const folder = join(__dirname, '..', 'page');
  const names = readdirSync(folder).filter((name) => /\.(html|js|css|svg)$/.test(name));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}
