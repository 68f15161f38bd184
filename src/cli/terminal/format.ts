/** 1234567 -> '1,234,567' */
export function formatCount(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Tokens per second: '932', '8.4k', '41k'. */
export function formatRate(perSecond: number): string {
  if (!Number.isFinite(perSecond)) return '-';
  if (perSecond < 1000) return perSecond.toFixed(perSecond < 10 ? 1 : 0);
  return `${(perSecond / 1000).toFixed(perSecond < 10_000 ? 1 : 0)}k`;
}

/** Seconds as '0:07', '12:34', '1:02:03'. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-';
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, '0'));
  const hours = Math.floor(whole / 3600);
  return hours > 0 ? `${hours}:${parts.join(':')}` : `${Math.floor(whole / 60)}:${parts[1]}`;
}

/** A loss in nats; a loss that isn't finite is written as it is. */
export function formatLoss(loss: number): string {
  return Number.isFinite(loss) ? loss.toFixed(3) : String(loss);
}

/** 'a word' as one argument of a shell: quoted only where needed. */
export function shellQuote(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** 0.256 -> '25.6 %' */
export function formatPercent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
