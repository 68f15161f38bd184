// On which core a thread runs. Where the system has no such notion, nothing happens.
#pragma once

namespace sgemoe {

// -1 when the system doesn't say.
int currentCore();

// Moves the calling thread to another of the cores that it may use, if there is one. It may come back later.
void leaveCore(int core);

}  // namespace sgemoe
