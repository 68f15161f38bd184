import { hostname } from 'node:os';
import { describe, expect, it } from 'vitest';
import { JsonLog } from '../../src/serve/http/log';

function record(level: string): { log: JsonLog; entries: () => Record<string, unknown>[] } {
  const lines: string[] = [];
  const log = new JsonLog({ write: (line) => lines.push(line) }, level);
  return { log, entries: () => lines.map((line) => JSON.parse(line)) };
}

describe('the log', () => {
  it('is a line of JSON an entry, as pino writes it', () => {
    const { log, entries } = record('info');
    log.info({ seed: 2n ** 60n }, 'first\nline');
    const [{ time, ...entry }] = entries();
    const { pid } = process;
    expect(entry).toEqual({
      level: 30,
      pid,
      hostname: hostname(),
      seed: String(2n ** 60n),
      msg: 'first\nline',
    });
    expect(time).toBeTypeOf('number');
  });

  it('tells an error with its code, stack and cause', () => {
    const { log, entries } = record('error');
    const err = Object.assign(new TypeError('outer', { cause: new Error('inner') }), { code: 'X' });
    log.error({ err }, 'failed');
    const told = {
      type: 'TypeError',
      message: 'outer',
      code: 'X',
      stack: expect.stringContaining('log.test'),
    };
    expect(entries()[0]).toMatchObject({ level: 50, err: { ...told, cause: { message: 'inner' } } });
  });

  it('leaves out what is below its level', () => {
    for (const [level, count] of [
      ['debug', 2],
      ['info', 2],
      ['warn', 1],
      ['error', 1],
      ['silent', 0],
    ] as const) {
      const { log, entries } = record(level);
      log.info({}, 'a');
      log.error({}, 'b');
      expect(entries(), level).toHaveLength(count);
    }
  });
});
