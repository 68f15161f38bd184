import { describe, expect, it } from 'vitest';
import { checkpointWriteError } from '../../../src/checkpoint/replaceFiles';
import { type Save, Saver, SaveSchedule } from '../../../src/training/run/saveSchedule';

/** What a generator yields, and returns. */
async function all<E, R>(events: AsyncGenerator<E, R, void>): Promise<{ events: E[]; returned: R }> {
  const seen: E[] = [];
  for (;;) {
    const { done, value } = await events.next();
    if (done) return { events: seen, returned: value };
    seen.push(value);
  }
}

describe('Saver', () => {
  const full = checkpointWriteError('x', Object.assign(new Error('full'), { code: 'ENOSPC' }));

  /** A save that the disk refuses this many times. */
  function refused(times: number): Save & { calls: number } {
    const save = {
      part: 'checkpoint' as const,
      step: 7,
      calls: 0,
      write: async () => {
        if (save.calls++ < times) throw full;
      },
    };
    return save;
  }
  const failed = { type: 'saveFailed', step: 7, part: 'checkpoint', error: full };
  const saved = { type: 'saved', step: 7, part: 'checkpoint' };

  it('reports a save that the disk refuses, and goes on', async () => {
    const saver = new Saver([0]);
    const failing = await all(saver.attempt(refused(1)));
    expect(failing).toEqual({ events: [{ ...failed, retrySeconds: null }], returned: false });
    expect(await all(saver.attempt(refused(0)))).toEqual({ events: [saved], returned: true });
  });

  it('tries the last save again for a while, then fails', async () => {
    const saver = new Saver([0, 0]);
    const twice = refused(2);
    const { events } = await all(saver.insist(twice));
    expect(events).toEqual([{ ...failed, retrySeconds: 0 }, { ...failed, retrySeconds: 0 }, saved]);
    expect(twice.calls).toBe(3);
    await expect(all(saver.insist(refused(3)))).rejects.toBe(full);
  });

  it("passes on errors that are not the disk's", async () => {
    const write = async () => Promise.reject(new TypeError('no'));
    await expect(all(new Saver().attempt({ part: 'best', step: 1, write }))).rejects.toThrow('no');
  });
});

describe('SaveSchedule', () => {
  it('is due by steps, by minutes, or else with the evaluation', () => {
    const bySteps = new SaveSchedule({ steps: 5 });
    expect([4, 5, 10].map((done) => bySteps.isDue(done, false))).toEqual([false, true, true]);
    expect(new SaveSchedule({ minutes: 1e-9 }).isDue(1, false)).toBe(true);
    expect(new SaveSchedule({ minutes: 10 }).isDue(1, true)).toBe(false);
    expect([true, false].map((due) => new SaveSchedule(undefined).isDue(1, due))).toEqual([true, false]);
  });
});
