#include "ranks.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

namespace sgemoe {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

enum Tag { kHeadTag = 4201, kDataTag, kAbortTag };

constexpr size_t kReasonBytes = 1024;
// MPI counts in int.
constexpr size_t kMostMessageBytes = size_t{1} << 30;
// Two pieces of a sum are on their way at once.
constexpr size_t kScratchBytes = size_t{8} << 20;
constexpr size_t kLeastPieceBytes = size_t{64} << 10;
// It takes milliseconds.
constexpr std::chrono::seconds kMostFinalizing{10};

// These are vectors by hand, since this folder is compiled for size.
template <class T>
void add(T* sum, const T* other, size_t n) {
  typedef T Lanes __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));
  constexpr size_t kLanes = 16 / sizeof(T);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    *reinterpret_cast<Lanes*>(sum + i) += *reinterpret_cast<const Lanes*>(other + i);
  }
  for (; i < n; i++) sum[i] += other[i];
}

// Sums the ranks' pieces pairwise into the first, as addTree does, in stretches that stay in the first cache.
template <class T>
void addTree(uint8_t* pieces, size_t pieceBytes, int ranks, size_t count) {
  constexpr size_t kStretch = 2048;
  for (size_t at = 0; at < count; at += kStretch) {
    const size_t n = std::min(kStretch, count - at);
    for (int apart = 1; apart < ranks; apart *= 2) {
      for (int r = 0; r + apart < ranks; r += 2 * apart) {
        T* const sum = reinterpret_cast<T*>(pieces + static_cast<size_t>(r) * pieceBytes) + at;
        const T* const other = reinterpret_cast<const T*>(pieces + static_cast<size_t>(r + apart) * pieceBytes) + at;
        add(sum, other, n);
      }
    }
  }
}

Part pieceOf(Part whole, size_t at, size_t bytes) {
  if (at >= whole.bytes) return {nullptr, 0};
  return {whole.data + at, std::min(bytes, whole.bytes - at)};
}

}  // namespace

Ranks::Ranks(std::unique_ptr<Mpi> mpi, double timeoutMs, void (*onProgress)())
    : mpi_(std::move(mpi)), timeout_(timeoutMs), onProgress_(onProgress) {}

bool Ranks::start(std::string* reason) {
  std::thread([this] { loop(); }).detach();
  std::unique_lock<std::mutex> lock(mutex_);
  progress_.wait(lock, [this] { return isStarted_; });
  *reason = startError_;
  return startError_.empty();
}

uint64_t Ranks::post(Exchange exchange) {
  std::lock_guard<std::mutex> lock(mutex_);
  queue_.push_back(std::move(exchange));
  work_.notify_one();
  return ++posted_;
}

Ranks::State Ranks::state(uint64_t ticket) {
  std::lock_guard<std::mutex> lock(mutex_);
  return ticket <= done_ ? done : failure_.kind != Failure::none ? failed : pending;
}

Ranks::State Ranks::wait(uint64_t ticket) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    progress_.wait(lock, [&] { return ticket <= done_ || failure_.kind != Failure::none; });
  }
  return state(ticket);
}

Failure Ranks::failure() {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

// Waits until the others are told, so that a process that ends right after it doesn't end the run without a reason.
void Ranks::abort(const std::string& reason) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (isOver_ || failure_.kind != Failure::none) return;
  abortReason_ = reason.substr(0, kReasonBytes - 1);
  mustAbort_ = true;
  work_.notify_one();
  progress_.wait(lock, [this] { return isOver_ || failure_.kind != Failure::none; });
}

void Ranks::endProcess(int code) {
  std::unique_lock<std::mutex> lock(mutex_);
  // The library's own end at exit would meet the thread that is still in it.
  if (isStuck_) std::_Exit(code);
  if (isOver_) return;
  exitCode_ = code == 0 ? 1 : code;
  mustLeave_ = true;
  work_.notify_one();
  // The thread ends the process. Where MPI can't any more, the launcher notices that this one has ended.
  progress_.wait_for(lock, std::chrono::seconds(5), [] { return false; });
  std::_Exit(exitCode_);
}

// ---------------------------------------------------------------- the communication thread

void Ranks::loop() {
  const int error = mpi_->start(&world_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (error != 0) startError_ = "MPI_Init_thread failed: " + mpi_->errorText(error);
    isStarted_ = true;
    isOver_ = error != 0;
  }
  heads_.resize(headDoubles() * static_cast<size_t>(world_.size));
  pieceBytes_ = std::max(kLeastPieceBytes, kScratchBytes / static_cast<size_t>(world_.size) / 64 * 64);
  progress_.notify_all();
  if (error != 0) return;
  Exchange exchange;
  while (waitForWork(&exchange)) {
    if (!carryOut(exchange)) continue;
    if (exchange.isLast) return finalize();
    finish(false);
  }
  leave();
}

// The exchange in hand is done.
void Ranks::finish(bool isLast) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (isOver_) return;
    done_++;
    isOver_ = isLast;
  }
  progress_.notify_all();
  onProgress_();
}

// All ranks have agreed to end. MPICH before 4.2 may wait for ever here where UCX sends by TCP: one rank blocks in a barrier while
// another needs its help to disconnect (pmodels/mpich#6596). Nothing is left to do for MPI, so close() doesn't wait for that.
void Ranks::finalize() {
  std::thread([this] {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (progress_.wait_for(lock, kMostFinalizing, [this] { return isOver_; })) return;
      isStuck_ = true;
    }
    finish(true);
  }).detach();
  mpi_->finalize();
  finish(true);
}

// Takes the next exchange; false when the process is to end. MPI moves on only while it is called, and what other ranks wait
// for may still be here, so it is called meanwhile.
bool Ranks::waitForWork(Exchange* exchange) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (mustLeave_) return false;
    if (mustAbort_) {
      lock.unlock();
      obeyAbort();
      lock.lock();
      continue;
    }
    if (!queue_.empty() && !hasFailed_) {
      *exchange = std::move(queue_.front());
      queue_.erase(queue_.begin());
      return true;
    }
    work_.wait_for(lock, milliseconds(2));
    lock.unlock();
    hearAborts();
    lock.lock();
  }
}

bool Ranks::carryOut(const Exchange& exchange) {
  if (!exchangeHeads(exchange)) return false;
  return exchange.sum == Sum::none ? move(exchange) : sum(exchange);
}

// Every rank tells every other what it calls and the bytes that it sends and expects, so all find the same contradiction.
bool Ranks::exchangeHeads(const Exchange& exchange) {
  double* const own = headOf(world_.rank);
  own[0] = exchange.name;
  own[1] = exchange.type;
  for (int r = 0; r < world_.size; r++) {
    own[2 + r] = static_cast<double>(exchange.sends[r].bytes);
    own[2 + world_.size + r] = static_cast<double>(exchange.receives[r].bytes);
  }
  const auto head = [this](int r) { return Part{reinterpret_cast<uint8_t*>(headOf(r)), headDoubles() * sizeof(double)}; };
  Pendings pendings;
  for (int r = 0; r < world_.size; r++) {
    if (r == world_.rank) continue;
    if (!receive(head(r), r, kHeadTag, &pendings) || !send(head(world_.rank), r, kHeadTag, &pendings)) return false;
  }
  if (!drive(&pendings)) return false;
  return headsAgree() || fail(Failure::mismatch, 0, "");
}

bool Ranks::headsAgree() const {
  for (int a = 0; a < world_.size; a++) {
    const double* const from = headOf(a);
    if (from[0] != headOf(0)[0] || from[1] != headOf(0)[1]) return false;
    for (int b = 0; b < world_.size; b++) {
      if (from[2 + b] != headOf(b)[2 + world_.size + a]) return false;
    }
  }
  return true;
}

bool Ranks::move(const Exchange& exchange) {
  const Part from = exchange.sends[world_.rank], to = exchange.receives[world_.rank];
  if (to.bytes > 0 && to.data != from.data) std::memcpy(to.data, from.data, to.bytes);
  Pendings pendings;
  // Each rank begins with its neighbour, so that not all send to one.
  for (int k = 1; k < world_.size; k++) {
    const int to = (world_.rank + k) % world_.size, from = (world_.rank - k + world_.size) % world_.size;
    if (!receive(exchange.receives[from], from, kDataTag, &pendings)) return false;
    if (!send(exchange.sends[to], to, kDataTag, &pendings)) return false;
  }
  return drive(&pendings);
}

// Each rank gets all ranks' addends of its part and sums them, piece after piece; the next piece travels meanwhile.
bool Ranks::sum(const Exchange& exchange) {
  scratch_.resize(2 * pieceBytes_ * static_cast<size_t>(world_.size));
  size_t most = 0;
  for (const Part& part : exchange.sends) most = std::max(most, part.bytes);
  const size_t pieces = (most + pieceBytes_ - 1) / pieceBytes_;
  Pendings now, next;
  if (pieces > 0 && !startPiece(exchange, 0, &now)) return false;
  for (size_t piece = 0; piece < pieces; piece++) {
    if (piece + 1 < pieces && !startPiece(exchange, piece + 1, &next)) return false;
    // What this rank sends of the piece has left, too: the sum may replace it.
    if (!drive(&now)) return false;
    sumPiece(exchange, piece);
    std::swap(now, next);
  }
  return true;
}

bool Ranks::startPiece(const Exchange& exchange, size_t piece, Pendings* pendings) {
  const size_t at = piece * pieceBytes_;
  const Part own = pieceOf(exchange.sends[world_.rank], at, pieceBytes_);
  if (own.bytes > 0) std::memcpy(scratch(piece, world_.rank), own.data, own.bytes);
  for (int k = 1; k < world_.size; k++) {
    const int to = (world_.rank + k) % world_.size, from = (world_.rank - k + world_.size) % world_.size;
    if (!receive({scratch(piece, from), own.bytes}, from, kDataTag, pendings)) return false;
    if (!send(pieceOf(exchange.sends[to], at, pieceBytes_), to, kDataTag, pendings)) return false;
  }
  return true;
}

void Ranks::sumPiece(const Exchange& exchange, size_t piece) {
  const Part to = pieceOf(exchange.receives[world_.rank], piece * pieceBytes_, pieceBytes_);
  if (to.bytes == 0) return;
  uint8_t* const pieces = scratch(piece, 0);
  if (exchange.sum == Sum::floats) {
    addTree<float>(pieces, pieceBytes_, world_.size, to.bytes / sizeof(float));
  } else {
    addTree<double>(pieces, pieceBytes_, world_.size, to.bytes / sizeof(double));
  }
  std::memcpy(to.data, pieces, to.bytes);
}

uint8_t* Ranks::scratch(size_t piece, int rank) {
  const size_t slot = piece % 2 * static_cast<size_t>(world_.size) + static_cast<size_t>(rank);
  return scratch_.data() + slot * pieceBytes_;
}

// ---------------------------------------------------------------- messages

bool Ranks::send(Part part, int to, int tag, Pendings* pendings) {
  for (size_t at = 0; at < part.bytes; at += kMostMessageBytes) {
    const Part message = pieceOf(part, at, kMostMessageBytes);
    pendings->push_back({{}, to});
    const int error = mpi_->send(message.data, static_cast<int>(message.bytes), to, tag, &pendings->back().request);
    if (error != 0) return failLibrary(error);
  }
  return true;
}

bool Ranks::receive(Part part, int from, int tag, Pendings* pendings) {
  for (size_t at = 0; at < part.bytes; at += kMostMessageBytes) {
    const Part message = pieceOf(part, at, kMostMessageBytes);
    pendings->push_back({{}, from});
    const int error = mpi_->receive(message.data, static_cast<int>(message.bytes), from, tag, &pendings->back().request);
    if (error != 0) return failLibrary(error);
  }
  return true;
}

// Waits for messages: yields at first, then sleeps, the longer the longer nothing has come, since a rank that spins takes a core
// from those that compute.
bool Ranks::drive(Pendings* pendings) {
  Clock::time_point since = Clock::now();
  while (!pendings->empty()) {
    bool moved = false;
    if (!testAll(pendings, &moved)) return false;
    if (pendings->empty()) break;
    const Clock::time_point now = Clock::now();
    if (moved) since = now;
    if (now - since < microseconds(30)) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(now - since < milliseconds(20) ? microseconds(50) : microseconds(400));
    if (!mayWait(*pendings, since)) return false;
  }
  return true;
}

bool Ranks::testAll(Pendings* pendings, bool* moved) {
  for (size_t i = 0; i < pendings->size();) {
    int isDone = 0;
    if (const int error = mpi_->test(&(*pendings)[i].request, &isDone)) return failLibrary(error);
    if (!isDone) {
      i++;
      continue;
    }
    (*pendings)[i] = pendings->back();
    pendings->pop_back();
    *moved = true;
  }
  return true;
}

bool Ranks::mayWait(const Pendings& pendings, Clock::time_point since) {
  if (mustLeave_) return false;
  if (mustAbort_) {
    obeyAbort();
    return false;
  }
  const Clock::time_point now = Clock::now();
  if (abortedBy_ < 0) hearAborts();
  // What the others completed before the abort may still be on its way from a third rank.
  if (abortedBy_ >= 0 && now - heardAt_ > milliseconds(100)) return fail(Failure::aborted, abortedBy_, heardReason_);
  if (now - since > timeout_) {
    const int peer = pendings[0].peer;
    sendAbort("waited " + std::to_string(static_cast<int64_t>(timeout_.count())) + " ms for rank " + std::to_string(peer));
    return fail(Failure::timeout, peer, "");
  }
  return true;
}

// ---------------------------------------------------------------- the end

// Looks for a message that a rank aborts; the calls let MPI move on, too. Returns whether one has come.
bool Ranks::hearAborts() {
  for (int r = 0; r < world_.size && abortedBy_ < 0; r++) {
    int isThere = 0;
    if (mpi_->probe(r, kAbortTag, &isThere) != 0 || !isThere) continue;
    char reason[kReasonBytes] = "";
    MpiRequest request{};
    int isDone = 0;
    if (mpi_->receive(reason, kReasonBytes, r, kAbortTag, &request) != 0) continue;
    while (!isDone && mpi_->test(&request, &isDone) == 0) std::this_thread::yield();
    reason[kReasonBytes - 1] = 0;
    heardReason_ = reason;
    heardAt_ = Clock::now();
    abortedBy_ = r;
  }
  return abortedBy_ >= 0;
}

void Ranks::sendAbort(const std::string& reason) {
  static char message[kReasonBytes];  // MPI may read it until the process ends
  std::memcpy(message, reason.data(), std::min(reason.size(), kReasonBytes - 1));
  Pendings pendings;
  for (int r = 0; r < world_.size; r++) {
    if (r == world_.rank) continue;
    Pending pending{{}, r};
    if (mpi_->send(message, kReasonBytes, r, kAbortTag, &pending.request) == 0) pendings.push_back(pending);
  }
  bool moved = false;
  for (const Clock::time_point start = Clock::now(); !pendings.empty() && Clock::now() - start < milliseconds(500);) {
    if (!testAll(&pendings, &moved)) return;
    std::this_thread::sleep_for(microseconds(50));
  }
}

void Ranks::obeyAbort() {
  mustAbort_ = false;
  if (hasFailed_) return;
  if (abortedBy_ >= 0) {  // another was first
    fail(Failure::aborted, abortedBy_, heardReason_);
    return;
  }
  sendAbort(abortReason_);
  fail(Failure::aborted, world_.rank, abortReason_);
}

// Ends the process, and with it the run. The others get half a second to tell why they end.
void Ranks::leave() {
  if (!hasFailed_) sendAbort("its process ended before close()");
  for (const Clock::time_point start = Clock::now(); Clock::now() - start < milliseconds(500);) {
    hearAborts();
    std::this_thread::sleep_for(milliseconds(1));
  }
  mpi_->abort(exitCode_);
}

bool Ranks::fail(Failure::Kind kind, int rank, std::string text) {
  hasFailed_ = true;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failure_ = {kind, rank, std::move(text), kind == Failure::mismatch ? heads_ : std::vector<double>{}};
  }
  progress_.notify_all();
  onProgress_();
  return false;
}

bool Ranks::failLibrary(int error) { return hasFailed_ ? false : fail(Failure::library, world_.rank, mpi_->errorText(error)); }

}  // namespace sgemoe
