// Tests of what JavaScript can't reach: the pool with callers on many threads, and that it shares work at all. Made to
// be built with SGEMOE_SANITIZE=thread, and right without it.
#include <cstdio>

#include "check.h"

namespace sgemoe {
namespace test {

namespace {
int tests = 0, failures = 0;
}

void test(const char* name, std::string (*body)()) {
  const std::string problem = body();
  tests++;
  failures += !problem.empty();
  std::printf("%s %d - %s\n", problem.empty() ? "ok" : "not ok", tests, name);
  if (!problem.empty()) std::printf("# %s\n", problem.c_str());
  std::fflush(stdout);
}

int finish() {
  std::printf("1..%d\n", tests);
  return failures == 0 ? 0 : 1;
}

}  // namespace test
}  // namespace sgemoe

int main() {
  sgemoe::test::poolTests();
  sgemoe::test::matmulTests();
  sgemoe::test::tileTests();
  return sgemoe::test::finish();
}
