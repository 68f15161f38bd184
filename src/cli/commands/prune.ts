import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { isInstalled } from '../../backend/packageManager';
import { platformName } from '../../backend/platform';
import { type CliContext, EXIT } from '../terminal/io';
import { UsageError } from '../terminal/usageError';

const NOTES = `
The package comes with an addon for every platform, about 1 MB each. The pruned package loads on one platform only; a later
install brings the others back. Bundlers that copy the addons want all of them: prune what they wrote, not what they read.

Examples:
  $ sgemoe prune
  $ sgemoe prune --platform linux-arm64
`;

export function addPruneCommand(program: Command, context: CliContext): void {
  program
    .command('prune')
    .description("Remove other platforms' addons from the installed package, for images and functions.")
    .option(
      '--platform <name>',
      'platform to keep: linux-x64, linux-x64-musl, darwin-arm64, ... (default: this one)',
    )
    .addHelpText('after', NOTES)
    .action(({ platform = platformName() }: { platform?: string }) => {
      const root = resolve(__dirname, '..', '..', '..');
      const { removed, bytes } = prune(root, platform);
      const count = removed.length === 1 ? '1 other' : `${removed.length} others`;
      context.io.stdout.write(`Kept prebuilds/${platform}, removed ${count}, ${bytes} bytes.\n`);
      context.exitCode = EXIT.ok;
    });
}

/**
 * Removes all prebuilds except prebuilds/<platform>.
 * @throws UsageError in a clone, or if the platform has no prebuild; nothing is removed then.
 */
export function prune(root: string, platform: string): { removed: string[]; bytes: number } {
  if (!isInstalled(root)) {
    throw new UsageError(`prune works on the package in node_modules, and this is a clone: ${root}`);
  }
  const folder = join(root, 'prebuilds');
  const entries = existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : [];
  const there = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  if (!there.includes(platform)) {
    throw new UsageError(
      `the package has no addon for ${platform}, so none is removed; it has: ${there.join(', ') || 'none'}`,
    );
  }
  const removed = there.filter((name) => name !== platform);
  const files = removed.flatMap((name) =>
    readdirSync(join(folder, name)).map((file) => join(folder, name, file)),
  );
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0);
  for (const name of removed) rmSync(join(folder, name), { recursive: true });
  return { removed, bytes };
}
