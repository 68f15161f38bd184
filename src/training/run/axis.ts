/** A map from values to pixels, with round values as ticks. */
export interface Axis {
  readonly ticks: readonly number[];
  at(value: number): number;
  label(tick: number): string;
}

export interface AxisOptions {
  /** Whether the axis ends at `high` itself instead of at the next round value. */
  exact?: boolean | undefined;
  integers?: boolean | undefined;
}

const MOST_TICKS = 8;

/** An axis from `low` at pixel `from` to `high` (or just above) at pixel `to`; its ticks are 1, 2 or 5 times 10^n apart. */
export function niceAxis(
  low: number,
  high: number,
  from: number,
  to: number,
  { exact = false, integers = false }: AxisOptions = {},
): Axis {
  const span = high > low ? high - low : 1;
  const step = roundStep(span / MOST_TICKS, integers);
  const first = Math.floor(low / step) * step;
  const top = exact ? low + span : Math.ceil((low + span) / step) * step;
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  const count = Math.floor((top - first) / step + 1e-9);
  const ticks = Array.from({ length: count + 1 }, (_, i) => first + i * step);
  return {
    ticks,
    at: (value) => from + ((value - first) / (top - first)) * (to - from),
    label: (tick) => tick.toFixed(decimals),
  };
}

/** The smallest number >= `least` of the form 1, 2 or 5 times a power of ten. */
function roundStep(least: number, integers: boolean): number {
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= least * (1 - 1e-9))!;
  return integers ? Math.max(1, step) : step;
}
