#include "mpi.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../dynamic_library.h"

namespace sgemoe {

#if defined(_WIN32)

std::unique_ptr<Mpi> openMpi(const std::string&, std::string* reason) {
  *reason = "MPI is not used on Windows";
  return nullptr;
}

#else

namespace {

// The constants of an ABI. Handles are of type H: addresses of exported objects in Open MPI, integers in MPICH and what
// descends from it, small numbers in pointers in the standard ABI (MPI 5.0, appendix A).
template <class H>
struct Constants {
  H world, byte, errorsReturn, infoNull;
  void* statusIgnore;
  int funneled, shared;
};

int* handleOf(MpiRequest* request, int) { return &request->number; }
void** handleOf(MpiRequest* request, void*) { return &request->pointer; }

void* find(void* library, const char* name, std::string* missing) {
  void* const symbol = librarySymbol(library, name);
  if (symbol == nullptr) missing->append(missing->empty() ? "" : ", ").append(name);
  return symbol;
}

template <class H>
class MpiOf final : public Mpi {
 public:
  MpiOf(void* library, const Constants<H>& constants) : constants_(constants) {
    load(library, "MPI_Init_thread", &initThread_);
    load(library, "MPI_Finalize", &finalize_);
    load(library, "MPI_Abort", &abort_);
    load(library, "MPI_Comm_rank", &commRank_);
    load(library, "MPI_Comm_size", &commSize_);
    load(library, "MPI_Comm_split_type", &commSplitType_);
    load(library, "MPI_Comm_free", &commFree_);
    load(library, "MPI_Comm_set_errhandler", &commSetErrhandler_);
    load(library, "MPI_Isend", &isend_);
    load(library, "MPI_Irecv", &irecv_);
    load(library, "MPI_Test", &test_);
    load(library, "MPI_Iprobe", &iprobe_);
    load(library, "MPI_Error_string", &errorString_);
  }

  const std::string& missing() const { return missing_; }

  int start(MpiWorld* world) override {
    int provided = 0;
    if (const int error = initThread_(nullptr, nullptr, constants_.funneled, &provided)) return error;
    if (const int error = commSetErrhandler_(constants_.world, constants_.errorsReturn)) return error;
    if (const int error = commRank_(constants_.world, &world->rank)) return error;
    if (const int error = commSize_(constants_.world, &world->size)) return error;
    H local{};
    if (const int error = commSplitType_(constants_.world, constants_.shared, 0, constants_.infoNull, &local)) return error;
    if (const int error = commRank_(local, &world->localRank)) return error;
    if (const int error = commSize_(local, &world->localSize)) return error;
    return commFree_(&local);
  }
  int finalize() override { return finalize_(); }
  int abort(int code) override { return abort_(constants_.world, code); }
  int send(const void* data, int bytes, int to, int tag, MpiRequest* request) override {
    return isend_(data, bytes, constants_.byte, to, tag, constants_.world, handleOf(request, H{}));
  }
  int receive(void* data, int bytes, int from, int tag, MpiRequest* request) override {
    return irecv_(data, bytes, constants_.byte, from, tag, constants_.world, handleOf(request, H{}));
  }
  int test(MpiRequest* request, int* isDone) override {
    return test_(handleOf(request, H{}), isDone, constants_.statusIgnore);
  }
  int probe(int from, int tag, int* isThere) override {
    return iprobe_(from, tag, constants_.world, isThere, constants_.statusIgnore);
  }
  std::string errorText(int code) override {
    char text[4096] = "";
    int length = 0;
    if (errorString_(code, text, &length) != 0) return "error " + std::to_string(code);
    return text;
  }

 private:
  template <class Function>
  void load(void* library, const char* name, Function* function) {
    *function = reinterpret_cast<Function>(find(library, name, &missing_));
  }

  const Constants<H> constants_;
  std::string missing_;
  int (*initThread_)(int* argc, char*** argv, int required, int* provided);
  int (*finalize_)();
  int (*abort_)(H comm, int code);
  int (*commRank_)(H comm, int* rank);
  int (*commSize_)(H comm, int* size);
  int (*commSplitType_)(H comm, int type, int key, H info, H* result);
  int (*commFree_)(H* comm);
  int (*commSetErrhandler_)(H comm, H handler);
  int (*isend_)(const void* data, int count, H type, int to, int tag, H comm, H* request);
  int (*irecv_)(void* data, int count, H type, int from, int tag, H comm, H* request);
  int (*test_)(H* request, int* isDone, void* status);
  int (*iprobe_)(int from, int tag, H comm, int* isThere, void* status);
  int (*errorString_)(int code, char* text, int* length);
};

template <class H>
std::unique_ptr<Mpi> bind(void* library, const char* abi, const Constants<H>& constants, std::string* reason) {
  auto mpi = std::make_unique<MpiOf<H>>(library, constants);
  mpi->abi = abi;
  if (mpi->missing().empty()) return mpi;
  *reason = "it lacks " + mpi->missing();
  return nullptr;
}

// An implementation may export this function and yet have an ABI of its own; then it answers -1.
bool hasStandardAbi(void* library) {
  const auto version = reinterpret_cast<int (*)(int*, int*)>(librarySymbol(library, "MPI_Abi_get_version"));
  int major = -1, minor = -1;
  return version != nullptr && version(&major, &minor) == 0 && major >= 1;
}

std::unique_ptr<Mpi> bindAbi(void* library, std::string* reason) {
  const auto number = [](intptr_t value) { return reinterpret_cast<void*>(value); };
  if (hasStandardAbi(library)) {
    return bind<void*>(library, "standard",
                       {number(0x101), number(0x247), number(0x143), number(0x130), nullptr, 1024, 221}, reason);
  }
  if (void* world = librarySymbol(library, "ompi_mpi_comm_world")) {
    return bind<void*>(library, "openmpi",
                       {world, librarySymbol(library, "ompi_mpi_byte"), librarySymbol(library, "ompi_mpi_errors_return"),
                        librarySymbol(library, "ompi_mpi_info_null"), nullptr, 1, 0},
                       reason);
  }
  return bind<int>(library, "mpich", {0x44000000, 0x4c00010d, 0x54000001, 0x1c000000, number(1), 1, 1}, reason);
}

// UCX, which many builds of MPI send by, replaces functions of memory while V8 uses them, and catches signals.
void tameUcx() {
  setenv("UCX_MEM_MMAP_HOOK_MODE", "none", 0);
  setenv("UCX_ERROR_SIGNALS", "", 0);
}

}  // namespace

std::unique_ptr<Mpi> openMpi(const std::string& path, std::string* reason) {
  tameUcx();
  void* library = openLibraryGlobally(path, reason);
  if (library == nullptr) return nullptr;
  void* const symbol = librarySymbol(library, "MPI_Get_library_version");
  if (symbol == nullptr) {
    *reason = "it has no MPI_Get_library_version";
    return nullptr;
  }
  auto mpi = bindAbi(library, reason);
  if (mpi == nullptr) return nullptr;
  // MPICH's text is of this length at most, the longest of all.
  static char text[8192 + 1];
  int length = 0;
  if (reinterpret_cast<int (*)(char*, int*)>(symbol)(text, &length) == 0) mpi->version.assign(text, std::strcspn(text, "\n"));
  mpi->path = fileOfAddress(symbol);
  return mpi;
}

#endif

}  // namespace sgemoe
