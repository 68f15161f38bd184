import { availableParallelism, cpus, hostname } from 'node:os';
import { checkFactor, checkOptions } from '../../base/checks';
import { SgemoeError } from '../../base/errors';
import { type Collectives, DEFAULT_TIMEOUT_MS } from '../collectives';
import { getKernels } from '../index';
import type { NativeRanks } from '../native';
import { type Launcher, launcherOf, mpiLibraries } from './launcher';
import { MpiCollectives } from './mpi';
import { hasEnded, processSpace } from './processes';
import { soloCollectives } from './solo';

export interface DistributedOptions {
  /** Longest time to wait for the other ranks without any progress, in milliseconds; Infinity waits for ever. Default 300,000. */
  timeoutMs?: number | undefined;
}

/** A library of MPI. */
export interface MpiLibrary {
  /** Whose binary interface it has: Open MPI's, that of MPICH and its family, or the standard one of MPI 5. */
  readonly abi: 'openmpi' | 'mpich' | 'standard';
  /** In its own words. */
  readonly version: string;
  readonly path: string;
}

const MOST_PLACE_BYTES = 320;

/** Milliseconds between two looks at the processes of other ranks. */
const WATCH_MS = 100;

/** Where a rank runs. */
interface Place {
  readonly pid: number;
  readonly space: string;
  readonly host: string;
}

let isStarted = false;

/** The processes that work together on a run, of which this one is a rank. */
export class Distributed {
  readonly collectives: Collectives;
  /** Number of this rank among those of its host, and how many these are. */
  readonly localRank: number;
  readonly localSize: number;
  /** Each rank's host. */
  readonly hosts: readonly string[];
  /** What connects them; null for a single process. */
  readonly mpi: MpiLibrary | null;
  readonly #places: readonly Place[];

  private constructor(collectives: Collectives, places: readonly Place[], native: NativeRanks | null) {
    this.collectives = collectives;
    this.localRank = native?.localRank ?? 0;
    this.localSize = native?.localSize ?? 1;
    this.#places = places;
    this.hosts = places.map(({ host }) => host);
    this.mpi = native && { abi: native.abi, version: native.version, path: native.path };
  }

  get rank(): number {
    return this.collectives.rank;
  }

  get size(): number {
    return this.collectives.size;
  }

  /**
   * Joins the run of which a launcher of MPI (mpirun, mpiexec, srun) has started this process, once in a process. A process that
   * nothing launched is a run of one rank, and no MPI is needed.
   *
   * The library is the file that SGEMOE_MPI names, else the first that opens of what belongs to the launcher; SGEMOE_MPI=none
   * makes each process a run of its own. Unless SGEMOE_THREADS is set, the ranks of a host share its processors.
   *
   * @throws TypeError, RangeError for options; SgemoeError SGEMOE_MPI_UNAVAILABLE, SGEMOE_MPI_MISMATCH.
   */
  static async init(options: DistributedOptions = {}): Promise<Distributed> {
    checkOptions('Distributed.init', options, ['timeoutMs']);
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    if (timeoutMs !== Number.POSITIVE_INFINITY) checkFactor('timeoutMs', timeoutMs);
    const launcher = launcherOf(process.env);
    if (launcher === null) return new Distributed(soloCollectives(), [ownPlace()], null);
    if (isStarted) throw new TypeError('Distributed.init: MPI can be started once in a process');
    const collectives = openFirst(launcher, timeoutMs);
    isStarted = true;
    const { native } = collectives;
    if (native.size !== launcher.size) {
      await collectives.close().settled();
      throw mismatch(launcher, native);
    }
    shareProcessors(native);
    return new Distributed(collectives, await placesOf(collectives), native);
  }

  /**
   * Aborts the run as soon as the process of another rank on this host has ended, which MPI doesn't notice, nor every launcher. It
   * looks whenever the event loop turns. Returns what stops it: call that before `close`.
   */
  watch(): () => void {
    const { rank, collectives } = this;
    const own = this.#places[rank];
    const timer = setInterval(() => {
      const ended = this.#places.findIndex(
        ({ pid, space, host }, r) =>
          r !== rank && host === own.host && space === own.space && pid > 0 && hasEnded(pid),
      );
      if (ended < 0) return;
      clearInterval(timer);
      collectives.abort(`the process of rank ${ended} has ended`);
    }, WATCH_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  /** Ends the run in order, when all ranks have called it. */
  close(): Promise<void> {
    return this.collectives.close().settled();
  }
}

function openFirst(launcher: Launcher, timeoutMs: number): MpiCollectives {
  const tried: string[] = [];
  for (const path of mpiLibraries(launcher, process.env, process.platform)) {
    try {
      return MpiCollectives.open(path, timeoutMs);
    } catch (error) {
      if (error instanceof SgemoeError) throw error;
      tried.push(`  ${path}: ${(error as Error).message}`);
    }
  }
  const { name, size } = launcher;
  const lines = [
    `${name} started this process as one of ${size}, and no library of MPI can be used. Tried:`,
    ...tried,
    'To fix it: name the library of that MPI in SGEMOE_MPI, or install it on every host; SGEMOE_MPI=none makes each process a run of its own.',
  ];
  throw new SgemoeError('SGEMOE_MPI_UNAVAILABLE', lines.join('\n'));
}

function mismatch({ name, size }: Launcher, native: NativeRanks): SgemoeError {
  const fix =
    name === 'Slurm'
      ? 'start it with srun --mpi=pmix or --mpi=pmi2, whichever that library was built for'
      : 'start it with the mpirun of that library, or name the library of the launcher in SGEMOE_MPI';
  const message =
    `${name} started ${size} processes, and ${native.path} (${native.version}) knows of ${native.size}: ` +
    `each would run alone. To fix it: ${fix}.`;
  return new SgemoeError('SGEMOE_MPI_MISMATCH', message);
}

/** Gives each rank of a host its share of the threads, and warns where the launcher left it too few processors. */
function shareProcessors({ localRank, localSize }: NativeRanks): void {
  const mine = availableParallelism();
  const all = cpus().length;
  const kernels = getKernels();
  const share = Math.max(1, Math.floor(all / localSize));
  if (!process.env.SGEMOE_THREADS && kernels.info.threads > share) kernels.setThreads(share);
  if (localRank === 0 && mine * localSize < all) {
    process.emitWarning(
      `Each of the ${localSize} ranks of this host may use ${mine} of its ${all} processors. ` +
        'mpirun of Open MPI binds ranks so unless told otherwise: --bind-to none --map-by ppr:1:node starts one rank a host that uses all.',
      { type: 'SgemoeWarning', code: 'SGEMOE_RANK_BINDING' },
    );
  }
}

function ownPlace(): Place {
  return { pid: process.pid, space: processSpace(), host: hostname() };
}

async function placesOf(collectives: Collectives): Promise<Place[]> {
  const { rank, size } = collectives;
  const texts = new Uint8Array(size * MOST_PLACE_BYTES);
  const textOf = (r: number) => texts.subarray(r * MOST_PLACE_BYTES, (r + 1) * MOST_PLACE_BYTES);
  const { pid, space, host } = ownPlace();
  new TextEncoder().encodeInto([pid, space, host].join('\n'), textOf(rank));
  await collectives.allGather(texts, 0, new Array(size).fill(MOST_PLACE_BYTES)).settled();
  return Array.from({ length: size }, (_, r) => {
    const [pid, space, host] = new TextDecoder().decode(textOf(r)).replace(/\0+$/, '').split('\n');
    return { pid: Number(pid), space, host };
  });
}
