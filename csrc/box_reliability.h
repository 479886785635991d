// Box reliability: IoU of every measurer's box with the pseudo-box, and its histogram by group.
//
// Kernels on raw pointers: no libtorch, no Python. All arithmetic is float32 and is written once, below, so that
// the CPU and CUDA kernels and the references round alike; compile without FMA contraction
// (-ffp-contract=off, --fmad=false) or histograms will differ in the last bit of a bin.
#pragma once

#include <cstdint>
#include <cstring>

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

struct BoxReliabilityArgs {
  const void* pred;      // (num_measurers, num_labels, 4), contiguous
  const void* target;    // (num_labels, 4), contiguous, same dtype
  const int64_t* group;  // (num_labels,), or null: every label is in group 0
  Dtype dtype;
  bool cxcywh;  // else xyxy
  int64_t num_measurers;
  int64_t num_labels;
  int64_t num_groups;
  int64_t bins;
  float eps;
  float* iou;        // (num_measurers, num_labels); NaN where a box is not finite
  int64_t* hist;     // (num_measurers, num_groups, bins), zeroed by the caller
  int64_t* invalid;  // (num_measurers,), zeroed by the caller
};

// Runs on up to `threads` threads (at least 1).
void box_reliability_cpu(const BoxReliabilityArgs& args, int threads);

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

struct Box {
  float x1, y1, x2, y2;
};

template <bool kCxcywh>
CLIPVG_HD Box to_xyxy(float a, float b, float c, float d) {
  if (!kCxcywh) return {a, b, c, d};
  const float half_width = 0.5f * c, half_height = 0.5f * d;
  return {a - half_width, b - half_height, a + half_width, b + half_height};
}

CLIPVG_HD float at_most(float a, float b) { return a < b ? a : b; }
CLIPVG_HD float at_least(float a, float b) { return a > b ? a : b; }
CLIPVG_HD float unit(float value) { return at_most(at_least(value, 0.0f), 1.0f); }

// IoU of one row. A result that is not finite marks an invalid row: some coordinate is inf or NaN.
template <typename T, bool kCxcywh>
CLIPVG_HD float row_iou(const T* pred, const T* target, float eps) {
  const float p0 = to_float(pred[0]), p1 = to_float(pred[1]), p2 = to_float(pred[2]), p3 = to_float(pred[3]);
  const float t0 = to_float(target[0]), t1 = to_float(target[1]), t2 = to_float(target[2]), t3 = to_float(target[3]);
  // Zero, unless a coordinate is not finite: clamping and max would hide an infinity.
  const float taint = p0 * 0.0f + p1 * 0.0f + p2 * 0.0f + p3 * 0.0f + t0 * 0.0f + t1 * 0.0f + t2 * 0.0f + t3 * 0.0f;
  Box p = to_xyxy<kCxcywh>(p0, p1, p2, p3);
  const Box t = to_xyxy<kCxcywh>(t0, t1, t2, t3);
  p = {unit(p.x1), unit(p.y1), unit(p.x2), unit(p.y2)};
  const float width = at_least(at_most(p.x2, t.x2) - at_least(p.x1, t.x1), 0.0f);
  const float height = at_least(at_most(p.y2, t.y2) - at_least(p.y1, t.y1), 0.0f);
  const float intersection = width * height;
  const float pred_area = (p.x2 - p.x1) * (p.y2 - p.y1);
  const float target_area = (t.x2 - t.x1) * (t.y2 - t.y1);
  return intersection / (pred_area + target_area - intersection + eps) + taint;
}

// r is finite and in [0, 1], so truncation is floor.
CLIPVG_HD int64_t bin_of(float r, int64_t bins) {
  const int64_t bin = static_cast<int64_t>(r * static_cast<float>(bins));
  return bin < bins ? bin : bins - 1;
}

CLIPVG_HD bool is_finite(float value) { return value * 0.0f == 0.0f; }

}  // namespace clipvg
