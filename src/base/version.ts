/** The version in package.json, which is two folders up from here in src/ as in dist/. */
export function packageVersion(): string {
  // A plain require, which bundlers see.
  return (require('../../package.json') as { version: string }).version;
}
