// The core on which a thread runs. On systems without this notion the functions do nothing.
#pragma once

namespace sgemoe {

// The core of the calling thread; -1 if the system doesn't say.
int currentCore();

// Moves the calling thread to another of the cores that it may use, if there is one. It may come back later.
void leaveCore(int core);

}  // namespace sgemoe
