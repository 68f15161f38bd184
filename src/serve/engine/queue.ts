import type { Job } from './job';

/** A part of all places that one group of requests leaves to others. */
const LEFT_TO_OTHERS = 1 / 4;

/**
 * Jobs that wait for a place. The next is one of the client with the fewest running jobs; among those, the one that came first.
 * A group takes at most three quarters of the places, so that the next request of someone else need not wait for its end.
 */
export class WaitingJobs {
  readonly #jobs = new Set<Job>();
  readonly #mostOfGroup: number;

  /** @param places of all workers. */
  constructor(places: number) {
    this.#mostOfGroup = Math.max(1, places - Math.floor(places * LEFT_TO_OTHERS));
  }

  get size(): number {
    return this.#jobs.size;
  }

  [Symbol.iterator](): Iterator<Job> {
    return this.#jobs.values();
  }

  add(job: Job): void {
    this.#jobs.add(job);
  }

  delete(job: Job): boolean {
    return this.#jobs.delete(job);
  }

  /** The job to start next, which stays in the queue; undefined if none may start. */
  next(running: Iterable<Job>): Job | undefined {
    const ofClient = new Map<string, number>();
    const ofGroup = new Map<string, number>();
    for (const { client, group } of running) {
      ofClient.set(client, (ofClient.get(client) ?? 0) + 1);
      if (group !== undefined) ofGroup.set(group, (ofGroup.get(group) ?? 0) + 1);
    }
    let best: Job | undefined;
    let fewest = Number.POSITIVE_INFINITY;
    for (const job of this.#jobs) {
      if (job.group !== undefined && (ofGroup.get(job.group) ?? 0) >= this.#mostOfGroup) continue;
      const count = ofClient.get(job.client) ?? 0;
      if (count >= fewest) continue;
      best = job;
      fewest = count;
    }
    return best;
  }
}
