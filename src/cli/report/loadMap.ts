import { BinnedSeries } from '../../training/run/series';
import type { LoadMap } from './reportData';

const MOST_COLUMNS = 200;
const LEAST_COLUMNS = 20;
/** The largest number of cells: at 2 bytes a cell in base64, about 270 kB in the page. */
const MOST_CELLS = 100_000;
const FULL = 65_535;

/** Collects a heat map in bounded memory. */
export class LoadMapBuilder {
  #expertsPerLayer: number[] = [];
  #series: BinnedSeries | null = null;

  /** Adds the shares of each layer's experts; malformed values, or values of other sizes than the run's, are left out. */
  add(step: number, expertLoad: readonly (readonly number[])[]): void {
    const experts = expertLoad.map((layer) => layer.length);
    const total = experts.reduce((sum, n) => sum + n, 0);
    if (total === 0) return;
    if (this.#series === null) {
      this.#expertsPerLayer = experts;
      this.#series = new BinnedSeries(columnsFor(total));
    }
    if (experts.join() === this.#expertsPerLayer.join()) this.#series.add(step, expertLoad.flat());
  }

  build(): LoadMap | null {
    if (this.#series === null) return null;
    const { bins } = this.#series;
    const rows = bins[0].mean.length;
    const shares = Buffer.alloc(2 * rows * bins.length);
    bins.forEach(({ mean }, column) => {
      mean.forEach((share, row) => {
        const level = Math.round(Math.min(1, Math.max(0, share)) * FULL);
        shares.writeUInt16LE(level, 2 * (column * rows + row));
      });
    });
    return {
      expertsPerLayer: this.#expertsPerLayer,
      firstSteps: bins.map(({ firstStep }) => firstStep),
      lastSteps: bins.map(({ lastStep }) => lastStep),
      shares: shares.toString('base64'),
    };
  }
}

/** The largest number of columns for so many rows; even. */
function columnsFor(rows: number): number {
  const columns = Math.min(MOST_COLUMNS, Math.max(LEAST_COLUMNS, Math.floor(MOST_CELLS / rows)));
  return columns - (columns % 2);
}
