#include <cuda_runtime.h>

#include <algorithm>

#include "box_reliability.h"

namespace clipvg {
namespace {

constexpr int kThreads = 256;                           // whole warps
constexpr int64_t kLabelsPerLaunch = int64_t{1} << 31;  // so that no 32-bit counter of a block overflows
constexpr int64_t kSharedBytes = 48 * 1024;             // what every device grants without opting in
constexpr int64_t kMaxGridY = 65535;
constexpr unsigned kWarp = 0xffffffffu;

// Reads a box with loads of 16 bytes (8 for the half types); it is aligned to them.
__device__ Box<float> load_box(const float* boxes, int64_t row) {
  const float4 v = __ldg(reinterpret_cast<const float4*>(boxes) + row);
  return {v.x, v.y, v.z, v.w};
}

__device__ Box<float> load_box(const double* boxes, int64_t row) {
  const double2* halves = reinterpret_cast<const double2*>(boxes) + 2 * row;
  const double2 a = __ldg(halves), b = __ldg(halves + 1);
  return {to_float(a.x), to_float(a.y), to_float(b.x), to_float(b.y)};
}

template <typename T>  // Half or BFloat16
__device__ Box<float> load_box(const T* boxes, int64_t row) {
  const uint2 v = __ldg(reinterpret_cast<const uint2*>(boxes) + row);
  const auto low = [](unsigned pair) { return to_float(T{static_cast<uint16_t>(pair & 0xffffu)}); };
  const auto high = [](unsigned pair) { return to_float(T{static_cast<uint16_t>(pair >> 16)}); };
  return {low(v.x), high(v.x), low(v.y), high(v.y)};
}

__device__ void add(int64_t* counter, unsigned amount) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(amount));
}

__device__ void add(unsigned* counter, unsigned amount) { atomicAdd(counter, amount); }

// Counts one row for each lane in `lanes`; the whole warp calls. Where those lanes have one cell, as when all scores
// are alike, one of them adds for all; to look for smaller groups would cost more than it saves.
template <typename Counter>
__device__ void count(Counter* counters, int64_t cell, unsigned lanes) {
  if (lanes == 0) return;
  const int lane = threadIdx.x % 32, leader = __ffs(lanes) - 1;
  const bool counted = lanes >> lane & 1;
  const int64_t first_cell = __shfl_sync(kWarp, cell, leader);
  if (__all_sync(kWarp, !counted || cell == first_cell)) {
    if (lane == leader) add(counters + cell, static_cast<unsigned>(__popc(lanes)));
  } else if (counted) {
    add(counters + cell, 1u);
  }
}

struct Slice {
  int64_t first_label, last_label;  // of this launch
  int64_t measurers;                // that a block counts at once; blockIdx.y says which
};

// A warp walks labels with a grid stride and reads each pseudo-box once for its measurers. kShared: a block counts in
// shared memory and adds its sums to the histogram at the end; else it adds to the histogram row by row.
template <typename T, bool kCxcywh, bool kShared>
__global__ void __launch_bounds__(kThreads) score(BoxReliabilityArgs args, Slice slice) {
  extern __shared__ unsigned local[];
  const T* preds = static_cast<const T*>(args.pred);
  const T* targets = static_cast<const T*>(args.target);
  const int64_t cells = args.num_groups * args.bins;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  const int lane = threadIdx.x % 32;
  const int64_t first_of_warp = slice.first_label + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x - lane;
  for (int64_t begin = blockIdx.y * slice.measurers; begin < args.num_measurers; begin += gridDim.y * slice.measurers) {
    const int64_t end = begin + slice.measurers < args.num_measurers ? begin + slice.measurers : args.num_measurers;
    if (kShared) {
      for (int64_t k = threadIdx.x; k < (end - begin) * cells; k += kThreads) local[k] = 0;
      __syncthreads();
    }
    for (int64_t base = first_of_warp; base < slice.last_label; base += stride) {
      const int64_t label = base + lane;
      const bool exists = label < slice.last_label;
      Target<float> target = {};
      int64_t group = 0;
      if (exists) {
        target = make_target<kCxcywh>(load_box(targets, label));
        if (args.group) group = __ldg(args.group + label);
      }
      const bool inside = exists && group >= 0 && group < args.num_groups;
      for (int64_t measurer = begin; measurer < end; ++measurer) {
        float r = 0.0f;
        if (exists) {
          const int64_t row = measurer * args.num_labels + label;
          r = row_iou<kCxcywh>(load_box(preds, row), target, args.eps);
          __stcs(args.iou + row, r);
        }
        const bool valid = r == r;
        const unsigned bad = __ballot_sync(kWarp, !valid), counted = __ballot_sync(kWarp, valid && inside);
        if (bad && lane == 0) add(args.invalid + measurer, static_cast<unsigned>(__popc(bad)));
        const int64_t cell = valid && inside ? group * args.bins + bin_of(r, args.bins) : 0;
        if (kShared) {
          count(local + (measurer - begin) * cells, cell, counted);
        } else {
          count(args.hist + measurer * cells, cell, counted);
        }
      }
    }
    if (kShared) {
      __syncthreads();
      for (int64_t k = threadIdx.x; k < (end - begin) * cells; k += kThreads) {
        if (local[k]) add(args.hist + begin * cells + k, local[k]);
      }  // no barrier: for the next measurers, a thread clears the counters that it has just read
    }
  }
}

// As many blocks as the device runs at once, or fewer for few labels.
template <typename Kernel>
cudaError_t launch(Kernel kernel, const BoxReliabilityArgs& args, Slice slice, int64_t bytes, cudaStream_t stream) {
  int device = 0, processors = 0, resident = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreads, bytes);
  if (error != cudaSuccess) return error;
  const int64_t slices = (args.num_measurers + slice.measurers - 1) / slice.measurers;
  const int64_t rows = std::min(slices, kMaxGridY);
  for (int64_t first = 0; first < args.num_labels; first += kLabelsPerLaunch) {
    slice.first_label = first;
    slice.last_label = std::min(first + kLabelsPerLaunch, args.num_labels);
    const int64_t wanted = (slice.last_label - first + kThreads - 1) / kThreads;
    const int64_t blocks = std::clamp<int64_t>(int64_t{processors} * resident / rows, 1, wanted);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(rows));
    kernel<<<grid, kThreads, static_cast<size_t>(bytes), stream>>>(args, slice);
  }
  return cudaGetLastError();
}

template <typename T, bool kCxcywh>
cudaError_t launch(const BoxReliabilityArgs& args, cudaStream_t stream) {
  const int64_t bytes = args.num_groups * args.bins * static_cast<int64_t>(sizeof(unsigned));
  if (bytes > kSharedBytes) return launch(score<T, kCxcywh, false>, args, {0, 0, args.num_measurers}, 0, stream);
  const int64_t measurers = std::min(args.num_measurers, kSharedBytes / bytes);
  return launch(score<T, kCxcywh, true>, args, {0, 0, measurers}, measurers * bytes, stream);
}

template <typename T>
cudaError_t launch(const BoxReliabilityArgs& args, cudaStream_t stream) {
  return args.cxcywh ? launch<T, true>(args, stream) : launch<T, false>(args, stream);
}

cudaError_t launch(const BoxReliabilityArgs& args, cudaStream_t stream) {
  switch (args.dtype) {
    case Dtype::f64:
      return launch<double>(args, stream);
    case Dtype::f16:
      return launch<Half>(args, stream);
    case Dtype::bf16:
      return launch<BFloat16>(args, stream);
    case Dtype::f32:
      break;
  }
  return launch<float>(args, stream);
}

}  // namespace

const char* box_reliability_cuda(const BoxReliabilityArgs& args, void* stream) {
  if (args.num_measurers == 0 || args.num_labels == 0) return nullptr;
  const cudaError_t error = launch(args, static_cast<cudaStream_t>(stream));
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace clipvg
