import { readFileSync, readlinkSync } from 'node:fs';

/** What process ids are counted in: they mean the same where this and the host are the same. '' where there is one for a host. */
export function processSpace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return ''; // not Linux
  }
}

/** Whether a process of this host has ended, even if its parent hasn't noticed yet. */
export function hasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
  return isZombie(pid);
}

function isZombie(pid: number): boolean {
  try {
    // The state stands behind the name, which may have parentheses of its own.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return 'ZX'.includes(text.charAt(text.lastIndexOf(')') + 2));
  } catch {
    return false; // not Linux
  }
}
