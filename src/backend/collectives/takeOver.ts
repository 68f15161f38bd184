import type { Collectives, SharedRank } from '../collectives';
import { MpiCollectives } from './mpi';
import { soloCollectives } from './solo';
import { takeOverThread } from './threads';

/** Goes on, in this thread, as a rank that another one of the process has shared. */
export function takeOver(shared: SharedRank): Collectives {
  switch (shared.kind) {
    case 'solo':
      return soloCollectives();
    case 'threads':
      return takeOverThread(shared);
    case 'mpi':
      return MpiCollectives.takeOver(shared);
  }
}
