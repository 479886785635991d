// As much of CUDA as box_reliability_cuda.cu asks for, on one thread of a CPU: blocks run one after the other, their
// threads are fibers that change where they wait. Found are loads that are not aligned, threads that wait for some that
// never come, and writes past a block's shared memory; that memory begins poisoned, and warps run as far ahead of each
// other as barriers let them.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __host__
#define __shared__
#define __launch_bounds__(threads)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};

inline dim3 threadIdx, blockIdx, gridDim;

namespace on_cpu {

constexpr size_t kStack = 64 * 1024;
constexpr unsigned kWarpSize = 32;
constexpr unsigned kUnwritten = 0xdeadbeefu;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  bool ended;
};

struct Barrier {
  unsigned arrived = 0, turn = 0;
};

inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline std::function<void()> body;
inline std::vector<Barrier> warps;
inline std::vector<uint64_t> slots;  // what each thread gives to its warp
inline Barrier block;
inline bool moved;  // whether any thread of the warp got on since all were last asked

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "cuda_on_cpu: %s\n", what);
  std::abort();
}

inline void wait(Barrier& barrier, unsigned threads) {
  const unsigned turn = barrier.turn;
  moved = true;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.turn;
  }
  while (barrier.turn == turn) swapcontext(&fibers[threadIdx.x].context, &scheduler);
}

// What all threads of the warp gave, from its first on; wait again before the next value is given.
inline const uint64_t* exchange(unsigned mask, uint64_t value) {
  if (mask != 0xffffffffu) fail("only whole warps are known here");
  slots[threadIdx.x] = value;
  wait(warps[threadIdx.x / kWarpSize], kWarpSize);
  return &slots[threadIdx.x / kWarpSize * kWarpSize];
}

inline void leave_exchange() { wait(warps[threadIdx.x / kWarpSize], kWarpSize); }

inline void fiber_main() {
  body();
  fibers[threadIdx.x].ended = moved = true;
  swapcontext(&fibers[threadIdx.x].context, &scheduler);
}

// Runs a warp until it must wait for others: as far ahead of them as it can get, so that a barrier that lacks is
// missed. Returns whether it got anywhere.
inline bool run_warp(unsigned warp) {
  bool any = false;
  do {
    moved = false;
    for (unsigned thread = warp * kWarpSize; thread < (warp + 1) * kWarpSize; ++thread) {
      if (fibers[thread].ended) continue;
      threadIdx.x = thread;
      swapcontext(&scheduler, &fibers[thread].context);
    }
    any |= moved;
  } while (moved);
  return any;
}

inline void run_block(unsigned threads) {
  fibers.resize(threads);
  warps.assign(threads / kWarpSize, {});
  slots.assign(threads, 0);
  block = {};
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    fiber.ended = false;
    makecontext(&fiber.context, fiber_main, 0);
  }
  for (bool any = true; any;) {
    any = false;
    for (unsigned k = 0; k < warps.size(); ++k) any |= run_warp(blockIdx.x % 2 ? warps.size() - 1 - k : k);
  }
  for (const Fiber& fiber : fibers) {
    if (!fiber.ended) fail("threads wait for some that never come");
  }
}

// What a launch becomes. A block may use `bytes` of `shared`.
template <size_t kSize, typename Kernel>
void run_grid(dim3 grid, unsigned threads, size_t bytes, unsigned (&shared)[kSize], Kernel kernel) {
  if (bytes > sizeof shared) fail("more shared memory than every device grants");
  if (threads % kWarpSize) fail("only whole warps are known here");
  body = kernel;
  gridDim = grid;
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      for (unsigned& word : shared) word = kUnwritten;
      run_block(threads);
      for (size_t k = (bytes + 3) / 4; k < kSize; ++k) {
        if (shared[k] != kUnwritten) fail("a block wrote past its shared memory");
      }
    }
  }
}

}  // namespace on_cpu

inline void __syncthreads() { on_cpu::wait(on_cpu::block, static_cast<unsigned>(on_cpu::fibers.size())); }

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* given = on_cpu::exchange(mask, predicate != 0);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < on_cpu::kWarpSize; ++lane) votes |= static_cast<unsigned>(given[lane]) << lane;
  on_cpu::leave_exchange();
  return votes;
}

inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == 0xffffffffu; }

inline int64_t __shfl_sync(unsigned mask, int64_t value, int lane) {
  const int64_t found = static_cast<int64_t>(on_cpu::exchange(mask, static_cast<uint64_t>(value))[lane]);
  on_cpu::leave_exchange();
  return found;
}

template <typename T>
T __ldg(const T* from) {
  if (reinterpret_cast<uintptr_t>(from) % alignof(T)) on_cpu::fail("a load is not aligned");
  return *from;
}

inline void __stcs(float* to, float value) { *to = value; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }

template <typename T>
T atomicAdd(T* counter, T amount) {
  const T before = *counter;
  *counter += amount;
  return before;
}

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };

inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 3, cudaSuccess; }
template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  return *blocks = 1, cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
