import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface ChartLibrary {
  script: string;
  style: string;
  licence: string;
}

/** The text of uPlot, which draws the curves. In dist/, the build has replaced the reading by the text. */
export function chartLibrary(): ChartLibrary {
  const dist = dirname(require.resolve('uplot'));
  const read = (...path: string[]) => readFileSync(join(dist, ...path), 'utf8');
  return {
    script: read('uPlot.iife.min.js'),
    style: read('uPlot.min.css'),
    licence: read('..', 'LICENSE'),
  };
}
