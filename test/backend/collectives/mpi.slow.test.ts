/** Ranks over MPI: what `Collectives` promises, and how a run ends when a rank or the set-up fails. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ModelConfig, memoryBytes } from '../../../src';
import { ROOT } from '../child';
import { expectedOf } from './expected';
import { canRun, FOUND, type Mpi, runRanks, staying } from './mpirun';

const PROGRAM = join(__dirname, 'mpiProgram.cjs');
/** On the command line of every rank. */
const MARK = `sgemoe-test-${process.pid}`;

interface Said {
  rank: number;
  code?: string;
  message?: string;
  [key: string]: unknown;
}

const plain = (value: unknown) =>
  JSON.parse(
    JSON.stringify(value, (_, v) => (ArrayBuffer.isView(v) ? [...(v as unknown as Iterable<number>)] : v)),
  );

async function run(mpi: Mpi, ranks: number, scenario: string, env: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sgemoe-said-'));
  const ended = await runRanks(mpi, ranks, [PROGRAM, MARK, scenario, folder], env);
  const said = readdirSync(folder)
    .flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'))
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Said)
    .sort((a, b) => a.rank - b.rank);
  rmSync(folder, { recursive: true });
  return { ...ended, said };
}

describe.skipIf(!canRun(__filename)).each(FOUND.map((mpi) => ({ ...mpi, mpi })))('$name', ({ name, mpi }) => {
  afterAll(async () => expect(await staying(MARK)).toEqual([]));

  it('moves and sums between 2 ranks that block', async () => {
    const { code, said, stderr } = await run(mpi, 2, 'waits');
    expect(
      said.map(({ results }) => results),
      stderr,
    ).toEqual([0, 1].map((r) => plain(expectedOf(r, 2))));
    expect(code).toBe(0);
  });

  it('moves and sums between 4 ranks that await, and tells who they are', async () => {
    const { code, said, stderr } = await run(mpi, 4, 'settles');
    expect(
      said.map(({ results }) => results),
      stderr,
    ).toEqual([0, 1, 2, 3].map((r) => plain(expectedOf(r, 4))));
    for (const { results, mpi: library, ...each } of said) {
      const hosts = new Array(4).fill(hostname());
      expect(each).toEqual({ rank: each.rank, size: 4, localRank: each.rank, localSize: 4, hosts });
      expect(library).toMatchObject({ abi: name, path: expect.stringMatching(/^\/.*libmpi/) });
      expect((library as { version: string }).version).toMatch(name === 'mpich' ? /MPICH/ : /Open MPI/);
    }
    expect(code).toBe(0);
  });

  it('keeps the memory for sums that memoryBytes tells', async () => {
    const { said, stderr } = await run(mpi, 3, 'scratch');
    const { exchange } = memoryBytes(ModelConfig.tiny(), { batch: 1, seq: 1, ranks: 3 });
    expect(said, stderr).toHaveLength(3);
    // Its first and last page may be there before, and MPI keeps something for each message.
    for (const { bytes } of said) {
      expect(bytes).toBeGreaterThan(exchange - 8192);
      expect(bytes).toBeLessThan(exchange + 2 ** 19);
    }
  });

  it('lets the event loop go on while a rank waits', async () => {
    const { code, said } = await run(mpi, 2, 'alive');
    expect(said[0].ticks).toBeGreaterThan(10);
    expect(code).toBe(0);
  });

  it('tells all ranks that they call different things', async () => {
    const { code, said } = await run(mpi, 2, 'mismatch');
    const message = 'Rank 0 calls barrier of Uint8Array, rank 1 calls allGather of Int32Array.';
    expect(said).toEqual(
      [0, 1].map((rank) => ({
        rank,
        code: 'SGEMOE_RANKS_MISMATCH',
        message,
        later: 'SGEMOE_RANKS_MISMATCH',
      })),
    );
    expect(code).not.toBe(0);
  });

  it('tells all ranks why one aborts', async () => {
    const { code, said } = await run(mpi, 2, 'aborts');
    const message = 'Rank 1 aborted the run: disk full €';
    expect(said).toEqual([0, 1].map((rank) => ({ rank, code: 'SGEMOE_RANKS_ABORTED', message })));
    expect(code).not.toBe(0);
  });

  it.each(['exits', 'throws'])(
    'ends the run with a process that %s before it has closed',
    async (scenario) => {
      const { code, said, stderr } = await run(mpi, 2, scenario);
      const message = 'Rank 1 aborted the run: its process ended before close()';
      expect(said, stderr).toEqual([{ rank: 0, code: 'SGEMOE_RANKS_ABORTED', message }]);
      if (scenario === 'throws') expect(stderr).toContain('Error: on purpose');
      expect(code).not.toBe(0);
    },
  );

  it('waits for a rank until the time limit', async () => {
    const { code, said } = await run(mpi, 2, 'late');
    expect(said[0]).toMatchObject({
      code: 'SGEMOE_RANKS_TIMEOUT',
      message: 'Rank 0 waited 500 ms for rank 1 in sumDoubles.',
    });
    expect(code).not.toBe(0);
  });

  it('of another kind than the library is refused, instead of ranks that each run alone', async () => {
    const other = FOUND.find((each) => each.name !== name);
    if (other === undefined) return;
    const { code, said, stderr } = await run(mpi, 2, 'waits', { SGEMOE_MPI: other.library });
    expect(said, stderr).toHaveLength(2);
    for (const { code, message } of said) {
      expect(code).toBe('SGEMOE_MPI_MISMATCH');
      expect(message).toMatch(/started 2 processes, and .*libmpi.* knows of 1: each would run alone\./);
    }
    expect(code).not.toBe(0);
  });
});

/** MPICH's library, whose last function never returns. */
function endlessLibrary(folder: string, library: string): string {
  const file = join(folder, 'libendless.so');
  const input = '#include <unistd.h>\nextern "C" int MPI_Finalize() { for (;;) pause(); }';
  const link = ['-Wl,--no-as-needed', `-l:${library}`];
  execFileSync('g++', ['-shared', '-fPIC', '-x', 'c++', '-', '-o', file, ...link], { input });
  return file;
}

describe.skipIf(!canRun(__filename))('MPI that does not end', () => {
  const mpich = FOUND.find(({ name }) => name === 'mpich');
  it.skipIf(mpich === undefined)('keeps no rank that has closed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sgemoe-endless-'));
    try {
      const env = { SGEMOE_MPI: endlessLibrary(folder, mpich!.library) };
      const { code, said, stderr } = await run(mpich!, 2, 'waits', env);
      expect(
        said.map(({ results }) => results),
        stderr,
      ).toEqual([0, 1].map((r) => plain(expectedOf(r, 2))));
      expect(code).toBe(0);
      expect(await staying(MARK)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe.skipIf(!canRun(__filename))('sgemoe info', () => {
  it.each(FOUND.map((mpi) => ({ ...mpi, mpi })))(
    'under mpirun of $name prints ranks, hosts and MPI once',
    async ({ mpi, name }) => {
      const cli = join(ROOT, 'dist', 'cli', 'main.js');
      const [text, json] = await Promise.all([
        runRanks(mpi, 2, [cli, 'info']),
        runRanks(mpi, 2, [cli, 'info', '--json']),
      ]);
      expect(text.stdout.match(/^ranks +2: 2 on .+$/gm), text.stderr).toHaveLength(1);
      expect(text.stdout.match(/^MPI +.*MPI.* \(ABI: (openmpi|mpich)\)$/gm)).toHaveLength(1);
      const { distributed } = JSON.parse(json.stdout) as { distributed: unknown };
      expect(distributed).toMatchObject({ ranks: 2, hosts: [hostname(), hostname()], mpi: { abi: name } });
      expect([text.code, json.code]).toEqual([0, 0]);
    },
  );
});
