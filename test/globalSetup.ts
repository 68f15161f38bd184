import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(__dirname, '..');

/** Some tests run the built package, as users do: builds dist/ when a source is newer. */
export default function setup(): void {
  const built = join(ROOT, 'dist', 'index.mjs');
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  const newest = Math.max(...sources.map((name) => statSync(join(ROOT, 'src', name)).mtimeMs));
  if (existsSync(built) && statSync(built).mtimeMs > newest) return;
  execFileSync(process.execPath, [join(ROOT, 'scripts', 'build-ts.js')], { cwd: ROOT, stdio: 'inherit' });
}
