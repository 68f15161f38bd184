// Exchanges between the ranks of a run over MPI, made one after another by one thread, which is the only one to call MPI.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "mpi.h"

namespace sgemoe {

struct Part {
  uint8_t* data;
  size_t bytes;
};

enum class Sum { none, floats, doubles };

// What src/backend/collectives/exchange.ts calls an Exchange: this rank sends sends[r] to each rank r and gets receives[r].
// Where the parts are summed, all receives are the one array for the sum.
struct Exchange {
  int name, type;  // numbers that must be the same on all ranks
  Sum sum;
  bool isLast;  // MPI is finalized after it
  std::vector<Part> sends, receives;
};

// Why a run has ended.
struct Failure {
  enum Kind { none, mismatch, aborted, timeout, library };
  Kind kind = none;
  int rank = 0;               // who aborted; whom this rank waited for
  std::string text;           // the reason of the abort; MPI's words
  std::vector<double> heads;  // of a mismatch: what each rank called (Ranks::headOf)
};

class Ranks {
 public:
  // `onProgress` is called by the communication thread whenever an exchange is done or the run has failed.
  Ranks(std::unique_ptr<Mpi> mpi, double timeoutMs, void (*onProgress)());

  // Starts the thread and MPI in it. Once in a process; the object lives until the process ends.
  bool start(std::string* reason);

  const MpiWorld& world() const { return world_; }
  const Mpi& mpi() const { return *mpi_; }

  // Queues an exchange and returns its ticket. Its memory must stay until it is done, and for ever if the run fails.
  uint64_t post(Exchange exchange);

  enum State { pending, done, failed };
  State state(uint64_t ticket);
  State wait(uint64_t ticket);  // blocks until it is no longer pending
  Failure failure();

  // Tells all ranks that this one ends the run.
  void abort(const std::string& reason);

  // For exit(): where the run isn't closed, MPI ends all its processes, with a code other than 0. Doesn't return then.
  void endProcess(int code);

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    MpiRequest request;
    int peer;
  };
  using Pendings = std::vector<Pending>;

  void loop();
  void finish(bool isLast);
  void finalize();
  bool waitForWork(Exchange* exchange);
  bool carryOut(const Exchange& exchange);
  bool exchangeHeads(const Exchange& exchange);
  bool headsAgree() const;
  bool move(const Exchange& exchange);
  bool sum(const Exchange& exchange);
  bool startPiece(const Exchange& exchange, size_t piece, Pendings* pendings);
  void sumPiece(const Exchange& exchange, size_t piece);
  bool send(Part part, int to, int tag, Pendings* pendings);
  bool receive(Part part, int from, int tag, Pendings* pendings);
  bool drive(Pendings* pendings);
  bool testAll(Pendings* pendings, bool* moved);
  bool mayWait(const Pendings& pendings, Clock::time_point since);
  bool hearAborts();
  void sendAbort(const std::string& reason);
  void obeyAbort();
  void leave();
  bool fail(Failure::Kind kind, int rank, std::string text);
  bool failLibrary(int error);
  double* headOf(int rank) { return heads_.data() + static_cast<size_t>(rank) * headDoubles(); }
  const double* headOf(int rank) const { return heads_.data() + static_cast<size_t>(rank) * headDoubles(); }
  size_t headDoubles() const { return 2 + 2 * static_cast<size_t>(world_.size); }
  uint8_t* scratch(size_t piece, int rank);

  const std::unique_ptr<Mpi> mpi_;
  const std::chrono::duration<double, std::milli> timeout_;
  void (*const onProgress_)();
  MpiWorld world_;

  std::mutex mutex_;
  std::condition_variable work_, progress_;
  // Guarded by the mutex.
  std::vector<Exchange> queue_;  // few at a time
  uint64_t posted_ = 0, done_ = 0;
  Failure failure_;
  std::string startError_, abortReason_;
  bool isStarted_ = false, isOver_ = false, isStuck_ = false;
  int exitCode_ = 0;
  // Set under the mutex, looked at without it.
  std::atomic<bool> mustAbort_{false}, mustLeave_{false};

  // The communication thread's own.
  std::vector<double> heads_;
  std::vector<uint8_t> scratch_;
  size_t pieceBytes_ = 0;
  bool hasFailed_ = false;
  int abortedBy_ = -1;
  std::string heardReason_;
  Clock::time_point heardAt_;
};

}  // namespace sgemoe
