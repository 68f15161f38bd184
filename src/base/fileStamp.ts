import type { BigIntStats } from 'node:fs';

/** A file as it was at one moment: another content under its path has another stamp. */
export interface StampedFile {
  readonly path: string;
  readonly stamp: string;
}

/** Tells one file, and one state of it, from others. The device is left out, since Windows tells it in two ways. */
export function fileStamp({ ino, size, mtimeNs }: Pick<BigIntStats, 'ino' | 'size' | 'mtimeNs'>): string {
  return `${ino} ${size} ${mtimeNs}`;
}
