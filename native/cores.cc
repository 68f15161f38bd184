#include "cores.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace sgemoe {

#if defined(__linux__)

int currentCore() { return sched_getcpu(); }

void leaveCore(int core) {
  cpu_set_t allowed;
  if (core < 0 || core >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(core, &others);
  if (CPU_COUNT(&others) == 0) return;
  // The first call moves the thread at once, the second leaves it where it is.
  sched_setaffinity(0, sizeof others, &others);
  sched_setaffinity(0, sizeof allowed, &allowed);
}

#else

int currentCore() { return -1; }
void leaveCore(int) {}

#endif

}  // namespace sgemoe
