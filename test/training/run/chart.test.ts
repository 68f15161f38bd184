import { describe, expect, it } from 'vitest';
import { niceAxis } from '../../../src/training/run/axis';
import { type ChartData, renderChart } from '../../../src/training/run/chart';
import { BinnedSeries } from '../../../src/training/run/series';
import { elementNames } from '../../cli/xml';

describe('niceAxis', () => {
  it('has ticks 1, 2 or 5 times a power of ten apart that enclose the values', () => {
    const axis = niceAxis(1.37, 6.6, 400, 80);
    expect(axis.ticks).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(axis.at(1)).toBe(400);
    expect(axis.at(7)).toBe(80);
    expect(axis.label(3)).toBe('3');
  });

  it('has as many decimals as the ticks need', () => {
    const axis = niceAxis(1.31, 1.34, 0, 1);
    expect(axis.ticks.map(axis.label)).toEqual(
      axis.ticks.map((tick) => tick.toFixed(3)).slice(0, axis.ticks.length),
    );
    expect(axis.at(1.31)).toBeGreaterThanOrEqual(0);
    expect(axis.at(1.34)).toBeLessThanOrEqual(1);
  });

  it('takes one value, and whole steps only when asked for', () => {
    expect(Number.isFinite(niceAxis(2, 2, 0, 100).at(2))).toBe(true);
    expect(niceAxis(0, 3, 0, 90, { exact: true, integers: true }).ticks).toEqual([0, 1, 2, 3]);
    expect(niceAxis(0, 3, 0, 90, { exact: true, integers: true }).at(3)).toBe(90);
  });
});

describe('BinnedSeries', () => {
  it('keeps means over equally many steps in bounded memory', () => {
    const series = new BinnedSeries(4);
    for (let step = 1; step <= 11; step++) series.add(step, [step, -step]);
    const bins = series.bins.map(({ firstStep, lastStep, mean }) => [firstStep, lastStep, ...mean]);
    expect(bins).toEqual([
      [1, 4, 2.5, -2.5],
      [5, 8, 6.5, -6.5],
      [9, 11, 10, -10],
    ]);
  });

  it('holds every step in its own bin while they fit', () => {
    const series = new BinnedSeries(4);
    for (let step = 1; step <= 4; step++) series.add(step, [step]);
    expect(series.bins.map((bin) => bin.mean[0])).toEqual([1, 2, 3, 4]);
  });
});

function data(overrides: Partial<ChartData> = {}): ChartData {
  const train = new BinnedSeries(8);
  const load = new BinnedSeries(8);
  for (let step = 1; step <= 20; step++) {
    train.add(step, [6 - step / 5]);
    load.add(step, [0.5, 0.5, 0, 1, 0, 0]);
  }
  return {
    title: 'a <run> & "more"',
    subtitle: 'small',
    tokensPerStep: 2048,
    train: train.bins,
    validation: [
      { step: 10, loss: 4 },
      { step: 20, loss: 3 },
    ],
    load: load.bins,
    expertsPerLayer: [2, 4],
    ...overrides,
  };
}

describe('renderChart', () => {
  it('is well-formed XML whatever the title, with named axes and their units', () => {
    const svg = renderChart(data({ title: 'a <run> & "more" \u0000\ud800' }));
    expect(elementNames(svg)[0]).toBe('svg');
    expect(svg).toContain('a &lt;run&gt; &amp; &quot;more&quot;');
    for (const label of ['loss (nats per token)', 'step (2,048 tokens each)', 'validation', 'layer 1']) {
      expect(svg).toContain(`>${label}<`);
    }
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  it('draws each validation loss, and names losses to compare with', () => {
    const svg = renderChart(data({ references: [{ label: 'bigram', loss: 2.5 }] }));
    expect(elementNames(svg).filter((name) => name === 'circle')).toHaveLength(2);
    expect(svg).toContain('>bigram 2.500<');
  });

  it('colours equal shares neutral, an idle expert and one with twice its share at the ends', () => {
    const filled = (expertsPerLayer: number[], shares: number[]) => {
      const load = new BinnedSeries(2);
      load.add(1, shares);
      const svg = renderChart(data({ load: load.bins, expertsPerLayer }));
      return [...svg.matchAll(/<path d="[^"]*" fill="([^"]*)"/g)].map((match) => match[1]);
    };
    expect(filled([4], [0.25, 0.25, 0.25, 0.25])).toEqual(['#f4f4f4']);
    expect(filled([2], [0, 1])).toEqual(['#8c510a', '#01665e']);
  });

  it('leaves out dense layers, and the panel of experts where all are dense', () => {
    const height = (svg: string) => Number(/ height="(\d+)"/.exec(svg)![1]);
    const mixed = renderChart(data({ expertsPerLayer: [2, 0, 4] }));
    expect(mixed).toContain('>layer 2<');
    expect(mixed).not.toContain('>layer 1<');
    expect(height(mixed)).toBe(height(renderChart(data())));
    const dense = renderChart(data({ load: [], expertsPerLayer: [0, 0] }));
    expect(dense).not.toMatch(/expert load|layer|NaN/);
    expect(dense).toContain('>step (2,048 tokens each)<');
    // The ticks of the steps stand below the losses.
    expect(dense).toContain('>20<');
    expect(height(dense)).toBeLessThan(height(mixed) - 60);
  });

  it('takes a run without any step', () => {
    const svg = renderChart(data({ train: [], validation: [], load: [], expertsPerLayer: [] }));
    expect(elementNames(svg)[0]).toBe('svg');
    expect(svg).not.toMatch(/NaN|Infinity/);
  });
});
