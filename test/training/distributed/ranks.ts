import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { createThreadGroup } from '../../../src/backend/collectives/threads';
import { ROOT } from '../../backend/child';

export interface Scenario {
  scenario: string;
  options: Record<string, unknown>;
}

/** Runs a scenario of rank.cjs on ranks that are threads; on 1 without any `collectives`. Returns what each has. */
export function onRanks<T>(size: number, { scenario, options }: Scenario): Promise<T[]> {
  const group = size === 1 ? null : createThreadGroup(size);
  const dist = join(ROOT, 'dist');
  const runRank = (rank: number) =>
    new Promise<T>((resolve, reject) => {
      const workerData = { dist, group, rank, size, scenario, options };
      const worker = new Worker(join(__dirname, 'rank.cjs'), { workerData });
      worker.once('message', resolve).once('error', reject);
    });
  return Promise.all(Array.from({ length: size }, (_, rank) => runRank(rank)));
}
