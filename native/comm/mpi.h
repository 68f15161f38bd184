// The functions of MPI that ranks need, bound when a program asks for them. There is no mpi.h: a header belongs to one make
// of MPI, and its users run whatever their cluster has.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace sgemoe {

// What MPI knows a started message by: a number or an address, by the make.
union MpiRequest {
  int number;
  void* pointer;
};

struct MpiWorld {
  int rank = 0, size = 1;
  int localRank = 0, localSize = 1;  // among the ranks of this host
};

// One thread makes all calls. Functions return MPI's error code, 0 for success.
class Mpi {
 public:
  virtual ~Mpi() = default;
  virtual int start(MpiWorld* world) = 0;
  virtual int finalize() = 0;
  virtual int abort(int code) = 0;  // ends all processes of the run; doesn't return where MPI works
  virtual int send(const void* data, int bytes, int to, int tag, MpiRequest* request) = 0;
  virtual int receive(void* data, int bytes, int from, int tag, MpiRequest* request) = 0;
  virtual int test(MpiRequest* request, int* isDone) = 0;
  virtual int probe(int from, int tag, int* isThere) = 0;
  virtual std::string errorText(int code) = 0;

  const char* abi = "";  // 'openmpi', 'mpich' or 'standard': whose binary interface the library has
  std::string version;   // the library's own words
  std::string path;      // its file
};

// Opens a library of MPI. Null on failure, with why in `reason`. MPI_Init may be called once in a process, so what was opened
// is for good.
std::unique_ptr<Mpi> openMpi(const std::string& path, std::string* reason);

}  // namespace sgemoe
