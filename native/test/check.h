// The smallest harness that reports test by test, in the format of the Test Anything Protocol.
#pragma once
#include <string>

namespace sgemoe {
namespace test {

// Runs body(), which returns what went wrong, or '' when nothing did, and prints a line about it.
void test(const char* name, std::string (*body)());

// Prints the plan; the exit code for main.
int finish();

void poolTests();
void matmulTests();
void tileTests();

}  // namespace test
}  // namespace sgemoe
