// How many threads this process may use: its own wish, the scheduler's affinity mask, the container's quota.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "parallel.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace sgemoe {
namespace {

// 0 when the variable is unset or is not a number of threads.
int threadsFromEnvironment(bool* invalid) {
  *invalid = false;
  const char* text = std::getenv("SGEMOE_THREADS");
  if (text == nullptr || *text == '\0') return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end == '\0' && value >= 1 && value <= kMaxThreads) return static_cast<int>(value);
  *invalid = true;
  return 0;
}

#if defined(__linux__)
int processorsInAffinityMask() {
  // Machines beyond 1024 processors need a larger mask than cpu_set_t.
  for (int processors = CPU_SETSIZE; processors <= 64 * CPU_SETSIZE; processors *= 4) {
    cpu_set_t* mask = CPU_ALLOC(processors);
    if (mask == nullptr) return 0;
    const size_t size = CPU_ALLOC_SIZE(processors);
    const int count = sched_getaffinity(0, size, mask) == 0 ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
  return 0;
}

std::string readLine(const std::string& path) {
  std::string line;
  if (FILE* file = std::fopen(path.c_str(), "r")) {
    char buffer[256];
    if (std::fgets(buffer, sizeof buffer, file)) line = buffer;
    std::fclose(file);
  }
  return line;
}

// Processors' worth of time per period; infinity when there is no quota.
double quotaOfFolder(const std::string& folder, bool version2) {
  double quota = -1, period = 0;
  if (version2) {
    if (std::sscanf(readLine(folder + "/cpu.max").c_str(), "%lf %lf", &quota, &period) != 2) return INFINITY;
  } else {
    if (std::sscanf(readLine(folder + "/cpu.cfs_quota_us").c_str(), "%lf", &quota) != 1) return INFINITY;
    if (std::sscanf(readLine(folder + "/cpu.cfs_period_us").c_str(), "%lf", &period) != 1) return INFINITY;
  }
  return quota > 0 && period > 0 ? quota / period : INFINITY;
}

// A group is bound by its own quota and by that of every group around it.
double quotaOfGroup(const std::string& mount, std::string group, bool version2) {
  double quota = quotaOfFolder(mount, version2);
  for (size_t slash; group.size() > 1 && (slash = group.rfind('/')) != std::string::npos; group.erase(slash)) {
    quota = std::fmin(quota, quotaOfFolder(mount + group, version2));
  }
  return quota;
}

// Lines of /proc/self/cgroup are "id:controllers:path"; version 2 has id 0 and no controllers.
double cgroupQuota() {
  double quota = INFINITY;
  FILE* file = std::fopen("/proc/self/cgroup", "r");
  if (file == nullptr) return quota;
  char line[4096];
  while (std::fgets(line, sizeof line, file)) {
    line[std::strcspn(line, "\n")] = '\0';
    const char* controllers = std::strchr(line, ':');
    const char* group = controllers ? std::strchr(controllers + 1, ':') : nullptr;
    if (group == nullptr) continue;
    const std::string names = "," + std::string(controllers + 1, group) + ",";
    if (names == ",,") {
      quota = std::fmin(quota, quotaOfGroup("/sys/fs/cgroup", group + 1, true));
    } else if (names.find(",cpu,") != std::string::npos) {
      for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
        quota = std::fmin(quota, quotaOfGroup(mount, group + 1, false));
      }
    }
  }
  std::fclose(file);
  return quota;
}
#endif

int processorsAllowed() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  const int inMask = processorsInAffinityMask();
  if (inMask > 0) count = inMask;
  const double quota = std::ceil(cgroupQuota());
  if (quota < count) count = static_cast<int>(quota);
#endif
  return count;
}

}  // namespace

int defaultThreadCount() {
  bool invalid = false;
  int threads = threadsFromEnvironment(&invalid);
  if (threads == 0) threads = processorsAllowed();
  return threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads;
}

const char* threadCountNote() {
  bool invalid = false;
  threadsFromEnvironment(&invalid);
  return invalid ? "SGEMOE_THREADS is ignored: it must be an integer in 1..256." : nullptr;
}

}  // namespace sgemoe
