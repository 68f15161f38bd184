import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { type Browser, chromium } from 'playwright-core';

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome']
  .map((name) => `/usr/bin/${name}`)
  .find(existsSync);

/** Whether a test file skips its browser tests, with a message. In CI a missing browser is a failure. */
export function skippedWithoutBrowser(file: string): boolean {
  const skipped = CHROMIUM === undefined && !process.env.CI;
  if (skipped)
    console.warn(`${basename(file)} is skipped: there is no Chromium (Debian: apt-get install chromium)`);
  return skipped;
}

export function launchBrowser(): Promise<Browser> {
  if (CHROMIUM === undefined) throw new Error('There is no Chromium; .ci/run installs it.');
  return chromium.launch({ executablePath: CHROMIUM });
}
