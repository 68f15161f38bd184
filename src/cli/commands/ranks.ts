/** Commands that mpirun starts on several ranks: rank 0 speaks for all, and every rank's failure is told. */
import { Distributed } from '../../backend/collectives/distributed';
import { SgemoeError } from '../../base/errors';
import { isAgreed } from '../../training/distributed/agreement';
import type { CommTimeoutOption } from '../options/commTimeout';
import type { CliIo, OutStream } from '../terminal/io';
import { reportError } from '../terminal/usageError';

const SILENT: OutStream = { write: () => true };

/** Where a rank's command writes: rank 0 as any process, the others nowhere. */
interface Rank {
  ranks: Distributed;
  io: CliIo;
}

/**
 * Runs a command on the ranks of the launcher that started this process, or as a single process. Returns its exit code, or that of
 * its failure: one that all ranks have is told once, any other with its rank, and then ends them all.
 */
export async function onRanks(
  io: CliIo,
  { commTimeout }: CommTimeoutOption,
  command: (rank: Rank) => Promise<number>,
): Promise<number> {
  const ranks = await Distributed.init({ timeoutMs: commTimeout && 1000 * commTimeout });
  const own = ranks.rank === 0 ? io : { ...io, stdout: SILENT, stderr: SILENT };
  try {
    const code = await command({ ranks, io: own });
    await ranks.close();
    return code;
  } catch (error) {
    if (ranks.size === 1) throw error;
    if (isAgreed(error)) {
      const code = reportError(error, own);
      await ranks.close();
      return code;
    }
    return failed(ranks, error, io);
  }
}

/** What every rank hears of another's end, once is enough. */
function isEndOfAnother(error: unknown): boolean {
  return error instanceof SgemoeError && error.code === 'SGEMOE_RANKS_ABORTED';
}

function failed({ rank, collectives }: Distributed, error: unknown, io: CliIo): number {
  const isHeard = isEndOfAnother(error);
  const code = reportError(
    error,
    isHeard && rank > 0 ? { ...io, stderr: SILENT } : io,
    isHeard ? null : rank,
  );
  if (!isHeard) collectives.abort(error instanceof Error ? error.message : String(error));
  return code;
}
