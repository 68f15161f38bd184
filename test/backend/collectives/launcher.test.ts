/** How a process finds out that it is one of several, and which MPI connects them. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Distributed } from '../../../src/backend/collectives/distributed';
import { launcherOf, mpiLibraries } from '../../../src/backend/collectives/launcher';
import { expectError } from '../../helpers/expectError';
import { ADDON } from '../child';

afterEach(() => vi.unstubAllEnvs());

describe('a launcher', () => {
  it('is known by its variables, that of MPI before Slurm', () => {
    expect(launcherOf({})).toBeNull();
    expect(launcherOf({ OMPI_COMM_WORLD_SIZE: '4' })).toEqual({ name: 'Open MPI', size: 4 });
    expect(launcherOf({ PMI_SIZE: '1' })).toEqual({ name: 'MPICH', size: 1 });
    expect(launcherOf({ SLURM_STEP_NUM_TASKS: '8' })).toEqual({ name: 'Slurm', size: 8 });
    expect(launcherOf({ SLURM_STEP_NUM_TASKS: '2', PMI_SIZE: '8' })).toEqual({ name: 'MPICH', size: 8 });
  });

  it('is none in a batch script, in a step of one task, or where SGEMOE_MPI=none', () => {
    expect(launcherOf({ SLURM_NTASKS: '8', SLURM_PROCID: '0' })).toBeNull();
    expect(launcherOf({ SLURM_STEP_NUM_TASKS: '1' })).toBeNull();
    expect(launcherOf({ OMPI_COMM_WORLD_SIZE: 'many' })).toBeNull();
    expect(launcherOf({ OMPI_COMM_WORLD_SIZE: '4', SGEMOE_MPI: 'none' })).toBeNull();
  });

  it('decides which libraries are tried', () => {
    const [openMpi, mpich] = [
      { name: 'Open MPI', size: 2 },
      { name: 'MPICH', size: 2 },
    ] as const;
    expect(mpiLibraries(openMpi, { SGEMOE_MPI: '/opt/libmpi.so' }, 'linux')).toEqual(['/opt/libmpi.so']);
    expect(mpiLibraries(openMpi, {}, 'linux')[0]).toBe('libmpi.so.40');
    const roots = { I_MPI_ROOT: '/opt/intel/mpi' };
    expect(mpiLibraries(mpich, roots, 'linux')[0]).toBe(join('/opt/intel/mpi', 'lib', 'libmpi.so.12'));
    expect(mpiLibraries(mpich, {}, 'linux')).not.toContain('libmpi.so.40');
    expect(mpiLibraries(openMpi, {}, 'darwin')).toContain(join('/opt/homebrew/lib', 'libmpi.40.dylib'));
  });
});

describe('Distributed.init', () => {
  it('of a process that nothing launched is one rank, as often as it is called', async () => {
    for (const name of ['OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS'])
      vi.stubEnv(name, undefined);
    for (let i = 0; i < 2; i++) {
      const run = await Distributed.init();
      const { rank, size, localRank, localSize, hosts, mpi } = run;
      expect({ rank, size, localRank, localSize, hosts, mpi }).toEqual({
        ...{ rank: 0, size: 1, localRank: 0, localSize: 1 },
        hosts: [hostname()],
        mpi: null,
      });
      await run.close();
    }
  });

  it('refuses options that are none', async () => {
    await expect(Distributed.init({ timeoutMs: 0 })).rejects.toThrow(/^timeoutMs must be > 0, got 0$/);
    await expect(Distributed.init({ timeout: 1 } as never)).rejects.toThrow(/unknown option 'timeout'/);
  });

  it.skipIf(ADDON === null)(
    'tells what it tried when a launcher asks for an MPI that is not there',
    async () => {
      vi.stubEnv('OMPI_COMM_WORLD_SIZE', '2');
      vi.stubEnv('SGEMOE_MPI', join(__dirname, 'none.so'));
      await expectError(
        'SGEMOE_MPI_UNAVAILABLE',
        /^Open MPI started this process as one of 2, and no library of MPI can be used. Tried:\n {2}\S*none\.so: /,
        () => Distributed.init(),
      );
    },
  );
});
