/** The version in package.json, which lies two folders above this file, both in src/ and in dist/. */
export function packageVersion(): string {
  // Bundlers see a plain require.
  return (require('../../package.json') as { version: string }).version;
}
