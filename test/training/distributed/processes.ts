/** The ranks of a run that tests signal, and what they have saved. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The process of a rank on whose command line `argument` is; null until it runs. */
export function processOf(argument: string, rank: number): number | null {
  const isRank = (pid: string) => {
    try {
      const [command, env] = ['cmdline', 'environ'].map((name) =>
        readFileSync(`/proc/${pid}/${name}`, 'utf8').split('\0'),
      );
      const isNamed = [`OMPI_COMM_WORLD_RANK=${rank}`, `PMI_RANK=${rank}`].some((each) => env.includes(each));
      return command[0] === process.execPath && command.includes(argument) && isNamed;
    } catch {
      return false; // it has ended
    }
  };
  return Number(readdirSync('/proc').find((pid) => /^\d+$/.test(pid) && isRank(pid)) ?? 0) || null;
}

/** Asks again and again until there is something. */
export async function until<T>(found: () => T | null): Promise<T> {
  for (;;) {
    const value = found();
    if (value !== null) return value;
    await sleep(20);
  }
}

/** The step of a run's last save, which is there at every moment after the first one; 0 before. */
export function savedStep(out: string): number {
  // Committed and on their way into place, in place, or that since the first look.
  for (const folder of [join(out, '.saved'), out, join(out, '.saved'), out]) {
    try {
      return JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8')).step;
    } catch {
      // not there
    }
  }
  return 0;
}
