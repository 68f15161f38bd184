import { SgemoeError } from '../../base/errors';
import type { Collectives, SharedRank, Transfer } from '../collectives';
import { CheckedCollectives, type Exchange } from './exchange';

/** The collectives of a run that has one rank: its transfers are done when the call returns. */
export function soloCollectives(): Collectives {
  return new SoloCollectives();
}

class SoloCollectives extends CheckedCollectives {
  #isClosed = false;
  #failure: SgemoeError | null = null;

  constructor() {
    super(0, 1);
  }

  override abort(reason: string): void {
    if (!this.#isClosed) this.#failure ??= abortedBy(0, reason);
  }

  override share(): SharedRank {
    return { kind: 'solo' };
  }

  protected override post({ name, sends, receives }: Exchange): Transfer {
    const failure = this.#failure;
    if (failure === null) {
      receives[0].set(sends[0]);
      this.#isClosed = name === 'close';
    }
    return {
      wait() {
        if (failure !== null) throw failure;
      },
      async settled() {
        if (failure !== null) throw failure;
      },
    };
  }
}

/** The error of a run that a rank has ended. */
export function abortedBy(rank: number, reason: string): SgemoeError {
  return new SgemoeError('SGEMOE_RANKS_ABORTED', `Rank ${rank} aborted the run: ${reason}`);
}
