#include <cuda_runtime.h>

#include <algorithm>

#include "box_reliability.h"

namespace clipvg {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kSharedBytes = 48 * 1024;  // what every device grants without opting in
constexpr int64_t kBlocksPerProcessor = 8;
constexpr int64_t kMaxGridY = 65535;

template <typename T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Coordinates {
  T value[4];  // aligned so that a box is one 8- or 16-byte load (two for float64)
};

__device__ void add(int64_t* counter, unsigned long long amount) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), amount);
}

// One block walks labels of one measurer (blockIdx.y) with a grid stride. kShared: counts go to a block-private
// histogram in shared memory, 32 bits a cell (a block sees fewer than 2^32 labels), merged at the end.
template <typename T, bool kCxcywh, bool kShared>
__global__ void __launch_bounds__(kThreads) score(BoxReliabilityArgs args) {
  extern __shared__ unsigned int cells[];
  const int64_t num_cells = args.num_groups * args.bins;
  const auto* pred = static_cast<const Coordinates<T>*>(args.pred);
  const auto* target = static_cast<const Coordinates<T>*>(args.target);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t measurer = blockIdx.y; measurer < args.num_measurers; measurer += gridDim.y) {
    int64_t* hist = args.hist + measurer * num_cells;
    unsigned long long invalid = 0;
    if (kShared) {
      for (int64_t cell = threadIdx.x; cell < num_cells; cell += kThreads) cells[cell] = 0;
      __syncthreads();
    }
    for (int64_t label = first; label < args.num_labels; label += stride) {
      const int64_t row = measurer * args.num_labels + label;
      const Coordinates<T> p = pred[row], t = target[label];
      const float r = row_iou<T, kCxcywh>(p.value, t.value, args.eps);
      const bool valid = is_finite(r);
      args.iou[row] = valid ? r : bits_to_float(0x7fc00000u);
      invalid += !valid;
      const int64_t group = args.group ? args.group[label] : 0;
      if (!valid || group < 0 || group >= args.num_groups) continue;
      const int64_t cell = group * args.bins + bin_of(r, args.bins);
      if (kShared) {
        atomicAdd(cells + cell, 1u);
      } else {
        add(hist + cell, 1);
      }
    }
    if (invalid) add(args.invalid + measurer, invalid);
    if (kShared) {
      __syncthreads();
      for (int64_t cell = threadIdx.x; cell < num_cells; cell += kThreads) {
        if (cells[cell]) add(hist + cell, cells[cell]);
      }
      __syncthreads();  // the next measurer zeroes the same cells
    }
  }
}

int64_t blocks_for(const BoxReliabilityArgs& args) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const int64_t wanted = (args.num_labels + kThreads - 1) / kThreads;
  const int64_t resident = std::max<int64_t>(1, processors * kBlocksPerProcessor / args.num_measurers);
  return std::clamp<int64_t>(wanted, 1, resident);
}

template <typename T, bool kCxcywh>
void launch(const BoxReliabilityArgs& args, cudaStream_t stream) {
  const dim3 grid(blocks_for(args), std::min(args.num_measurers, kMaxGridY));
  const int64_t bytes = args.num_groups * args.bins * static_cast<int64_t>(sizeof(unsigned int));
  if (bytes <= kSharedBytes) {
    score<T, kCxcywh, true><<<grid, kThreads, bytes, stream>>>(args);
  } else {
    score<T, kCxcywh, false><<<grid, kThreads, 0, stream>>>(args);
  }
}

template <typename T>
void launch(const BoxReliabilityArgs& args, cudaStream_t stream) {
  args.cxcywh ? launch<T, true>(args, stream) : launch<T, false>(args, stream);
}

}  // namespace

const char* box_reliability_cuda(const BoxReliabilityArgs& args, void* stream) {
  if (args.num_measurers == 0 || args.num_labels == 0) return nullptr;
  const auto queue = static_cast<cudaStream_t>(stream);
  switch (args.dtype) {
    case Dtype::f32:
      launch<float>(args, queue);
      break;
    case Dtype::f64:
      launch<double>(args, queue);
      break;
    case Dtype::f16:
      launch<Half>(args, queue);
      break;
    case Dtype::bf16:
      launch<BFloat16>(args, queue);
      break;
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace clipvg
