// Box reliability: IoU of every measurer's box with the pseudo-box, and its histogram by group.
//
// Kernels on raw pointers: no libtorch, no Python. All arithmetic is float32 and is written once, below, so that
// the CPU and CUDA kernels and the references round alike; compile without FMA contraction
// (-ffp-contract=off, --fmad=false) or histograms will differ in the last bit of a bin.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>

#ifdef __CUDACC__
#define CLIPVG_HD __host__ __device__ __forceinline__
#else
#define CLIPVG_HD inline __attribute__((always_inline))
#endif

namespace clipvg {

enum class Dtype { f32, f64, f16, bf16 };

// Bit patterns of the half types: enough to load them, with neither CUDA's nor torch's headers.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

constexpr int64_t kMaxBins = int64_t{1} << 24;  // float32 counts exactly up to here
constexpr int64_t kMaxGroups = (int64_t{1} << 31) - 1;
constexpr int64_t kMaxCounts = int64_t{1} << 30;  // 8 GiB of histogram

// Words about an eps, or a histogram, that no kernel takes; null where both are sound.
inline const char* why_not(int64_t num_measurers, int64_t num_groups, int64_t bins, double eps) {
  if (!(eps >= 0x1p-149 && eps <= 3.4e38)) return "eps must be a float32 above 0, and finite";
  if (num_measurers > kMaxCounts / num_groups / bins) return "n * num_groups * bins must be at most 2^30";
  return nullptr;
}

struct BoxReliabilityArgs {
  const void* pred;      // (num_measurers, num_labels, 4), contiguous
  const void* target;    // (num_labels, 4), contiguous, same dtype
  const int64_t* group;  // (num_labels,), or null: every label is in group 0
  Dtype dtype;
  bool cxcywh;  // else xyxy
  int64_t num_measurers;
  int64_t num_labels;
  int64_t num_groups;  // 1 to kMaxGroups
  int64_t bins;        // 1 to kMaxBins
  float eps;             // above 0, finite
  float* iou;        // (num_measurers, num_labels); NaN where a box is not finite
  int64_t* hist;     // (num_measurers, num_groups, bins), zeroed by the caller
  int64_t* invalid;  // (num_measurers,), zeroed by the caller
};

// Calls task(0) .. task(tasks - 1) in any order, at once where it can.
using RunTasks = std::function<void(int64_t tasks, const std::function<void(int64_t)>& task)>;

// Cuts the labels into up to `threads` tasks. CLIPVG_CPU_ISA=generic|avx2|avx512 forces a variant of the code.
// Returns null, or why nothing was computed.
const char* box_reliability_cpu(const BoxReliabilityArgs& args, int threads, const RunTasks& run_tasks);

// Launches on `stream` (a cudaStream_t). Returns null, or CUDA's message for the error.
const char* box_reliability_cuda(const BoxReliabilityArgs& args, void* stream);

CLIPVG_HD float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

CLIPVG_HD float to_float(float value) { return value; }
CLIPVG_HD float to_float(double value) { return static_cast<float>(value); }
CLIPVG_HD float to_float(BFloat16 value) { return bits_to_float(uint32_t{value.bits} << 16); }
CLIPVG_HD float to_float(Half value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const uint32_t mantissa = value.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in float32
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t biased = exponent == 31 ? 255u : exponent + 112u;
  return bits_to_float(sign | (biased << 23) | (mantissa << 13));
}

// The arithmetic of one row, or of many: F is float, or a vector of floats of which every operator acts by lane.

template <typename F>
struct Box {
  F x1, y1, x2, y2;  // as stored in cxcywh: centre, width, height
};

template <typename F>
CLIPVG_HD F at_most(F a, F b) {
  return a < b ? a : b;
}

template <typename F>
CLIPVG_HD F at_least(F a, F b) {
  return a > b ? a : b;
}

// Where coordinates are counted from on one axis: the middle of a pseudo-box whose side there is under kSmall, else 0.
// In [0, 1] a corner is rounded by up to 2^-25, which is much of a small side.
constexpr float kSmall = 0.0625f;

template <typename F>
CLIPVG_HD F origin_of(F middle, F side) {
  return side < kSmall ? middle : F{};
}

// Corners, counted from (x, y). Those that are given, as xyxy, are exact and stay as they are.
template <bool kCxcywh, typename F>
CLIPVG_HD Box<F> to_xyxy(Box<F> box, F x, F y) {
  if (!kCxcywh) return box;
  const F half_width = 0.5f * box.x2, half_height = 0.5f * box.y2;
  const F middle_x = box.x1 - x, middle_y = box.y1 - y;
  return {middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height};
}

// Clamps to the unit interval, which begins at -origin.
template <typename F>
CLIPVG_HD F unit(F value, F origin) {
  return at_most(at_least(value, 0.0f - origin), 1.0f - origin);
}

// Zero, or NaN where a coordinate is not finite: clamping would hide an infinity.
template <typename F>
CLIPVG_HD F taint(Box<F> box) {
  return (box.x1 * 0.0f + box.y1 * 0.0f) + (box.x2 * 0.0f + box.y2 * 0.0f);
}

// A pseudo-box made ready for predictions.
template <typename F>
struct Target {
  F x, y;  // origin
  Box<F> box;
  F area, taint;
};

template <bool kCxcywh, typename F>
CLIPVG_HD Target<F> make_target(Box<F> stored) {
  const F x = kCxcywh ? origin_of(stored.x1, stored.x2) : F{}, y = kCxcywh ? origin_of(stored.y1, stored.y2) : F{};
  const Box<F> box = to_xyxy<kCxcywh>(stored, x, y);
  return {x, y, box, (box.x2 - box.x1) * (box.y2 - box.y1), taint(stored)};
}

// IoU with a prediction as it is stored; NaN where it, or a coordinate, is not finite. Else it is in [0, 1]: no
// rounding takes the intersection above either area.
template <bool kCxcywh, typename F>
CLIPVG_HD F row_iou(Box<F> stored, const Target<F>& target, float eps) {
  const Box<F> box = to_xyxy<kCxcywh>(stored, target.x, target.y);
  const Box<F>& t = target.box;
  const Box<F> p = {unit(box.x1, target.x), unit(box.y1, target.y), unit(box.x2, target.x), unit(box.y2, target.y)};
  const F width = at_least(at_most(p.x2, t.x2) - at_least(p.x1, t.x1), F{});
  const F height = at_least(at_most(p.y2, t.y2) - at_least(p.y1, t.y1), F{});
  const F intersection = width * height;
  const F area = (p.x2 - p.x1) * (p.y2 - p.y1);
  const F iou = intersection / (area + target.area - intersection + eps);
  const F zero = (iou - iou) + (taint(stored) + target.taint);
  return zero == zero ? iou : F{} + bits_to_float(0x7fc00000u);
}

// In [0, 1] whatever r is, NaN too: no number may reach memory beside the histogram.
template <typename F>
CLIPVG_HD F bounded(F r) {
  return at_most(at_least(r, F{}), F{} + 1.0f);
}

// Truncation is floor there.
CLIPVG_HD int64_t bin_of(float r, int64_t bins) {
  const int64_t bin = static_cast<int32_t>(bounded(r) * static_cast<float>(bins));  // bins <= kMaxBins
  return bin < bins ? bin : bins - 1;
}

}  // namespace clipvg
