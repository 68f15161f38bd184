// The functions of JavaScript that the module calls (src/backend/wasm/instance.ts), and what it keeps for each thread.
// Instances in several threads share one memory, static data included, so whatever changes is thread_local.
#pragma once
#include <cstdint>

namespace sgemoe::host {

#define SGEMOE_IMPORT(name) __attribute__((import_module("sgemoe"), import_name(#name))) name

extern "C" {
// Throws an error with this text through all frames of the module: no destructor runs. Kinds: ArgumentError::Kind.
[[noreturn]] void SGEMOE_IMPORT(throwError)(int32_t kind, const char* text, uint32_t bytes);
// A number as JavaScript prints it; returns its length, at most `bytes`.
uint32_t SGEMOE_IMPORT(numberText)(double value, char* text, uint32_t bytes);
// Returns 64-byte aligned memory; throws, as throwError does, if there is none.
void* SGEMOE_IMPORT(allocate)(double bytes);
void SGEMOE_IMPORT(release)(void* memory);
// Starts threads that run help() (pool.cc) until there are so many; returns how many there are.
int SGEMOE_IMPORT(startHelpers)(int wanted);
double SGEMOE_IMPORT(now)();  // milliseconds
// Waits some microseconds if this thread may wait.
void SGEMOE_IMPORT(nap)();
}

// Bytes [begin, end) that a call writes: JavaScript copies those of arrays outside of this memory back.
struct Written {
  uint32_t begin, end;
};
constexpr int kMaxWritten = 10;  // as areas.h: arrays of one call

void noteWritten(uintptr_t begin, uintptr_t end);

// Called before each call: forgets what an earlier call left, even if that one ended by throwError().
void beginCall();
void forgetScratch();

}  // namespace sgemoe::host
