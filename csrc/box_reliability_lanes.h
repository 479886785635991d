// IoU and counts of a block of rows, kLanes of them at once, on the vector extensions that GCC and Clang share: one
// source for SSE2, NEON, AVX2 and AVX-512. Everything is inlined into a function that is compiled for one of them.
#pragma once

#include <cstddef>
#include <utility>

#include "box_reliability.h"

namespace clipvg {

#define CLIPVG_INLINE inline __attribute__((always_inline))

// Loads and stores go through memcpy: no address need be aligned.
template <int kLanes>
struct Lanes {
  typedef float F __attribute__((vector_size(4 * kLanes)));
  typedef int32_t I __attribute__((vector_size(4 * kLanes)));
  typedef double Wide __attribute__((vector_size(8 * kLanes)));
  typedef uint16_t Narrow __attribute__((vector_size(2 * kLanes)));
};

template <typename Vector>
CLIPVG_INLINE Vector load(const void* from) {
  Vector to;
  memcpy(&to, from, sizeof to);
  return to;
}

template <typename Vector>
CLIPVG_INLINE void store(void* to, Vector from) {
  memcpy(to, &from, sizeof from);
}

template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::F load_floats(const float* from) {
  return load<typename Lanes<kLanes>::F>(from);
}

template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::F load_floats(const double* from) {
  return __builtin_convertvector(load<typename Lanes<kLanes>::Wide>(from), typename Lanes<kLanes>::F);
}

template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::I load_bits(const void* from) {
  return __builtin_convertvector(load<typename Lanes<kLanes>::Narrow>(from), typename Lanes<kLanes>::I);
}

template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::F load_floats(const BFloat16* from) {
  return (typename Lanes<kLanes>::F)(load_bits<kLanes>(from) << 16);
}

template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::F load_floats(const Half* from) {
  using F = typename Lanes<kLanes>::F;
  using I = typename Lanes<kLanes>::I;
  const I bits = load_bits<kLanes>(from);
  const I magnitude = bits & 0x7fff, sign = (bits & 0x8000) << 16;
  const I bias = I{} + (112 << 23);  // of float32's exponent over float16's; twice for infinity and NaN
  const I normal = (magnitude << 13) + bias + (magnitude >= 0x7c00 ? bias : I{});
  // Subnormal: magnitude * 2^-24, exact, also where the processor flushes float32's subnormals.
  const I small = (I)(__builtin_convertvector(magnitude, F) * 5.9604644775390625e-8f);
  return (F)((magnitude < 0x400 ? small : normal) | sign);
}

// A vector whose lane j is lane Pick::at(j) of a and b together.
template <typename Pick, typename F, size_t... j>
CLIPVG_INLINE F shuffle(F a, F b, std::index_sequence<j...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, Pick::at(j)...);
#else
  typedef int32_t Mask __attribute__((vector_size(sizeof(F))));
  return __builtin_shuffle(a, b, Mask{Pick::at(j)...});
#endif
}

// Interleaves singles, or pairs, of the low or high half of every four lanes (unpcklps, unpckhps, movlhps, movhlps).
template <int kLanes, int kHigh, bool kPairs>
struct Interleave {
  static constexpr int at(int j) {
    const int from_b = kPairs ? j % 4 / 2 : j % 2, step = kPairs ? j % 2 : j % 4 / 2;
    return j / 4 * 4 + 2 * kHigh + step + from_b * kLanes;
  }
};

// The low (kOdd = 0) or high words of little-endian int64.
template <int kOdd>
struct Words {
  static constexpr int at(int j) { return 2 * j + kOdd; }
};

// Undoes the order in which `load_boxes` leaves the rows.
template <int kLanes>
struct InOrder {
  static constexpr int at(int j) { return j % (kLanes / 4) * 4 + j / (kLanes / 4); }
};

template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::F in_order(typename Lanes<kLanes>::F value) {
  return shuffle<InOrder<kLanes>>(value, value, std::make_index_sequence<kLanes>{});
}

// kLanes rows of four, transposed by every four lanes: lane 4 g + i holds row i * kLanes / 4 + g.
template <int kLanes, typename T>
CLIPVG_INLINE Box<typename Lanes<kLanes>::F> load_boxes(const T* rows) {
  using F = typename Lanes<kLanes>::F;
  constexpr std::make_index_sequence<kLanes> all{};
  const F a = load_floats<kLanes>(rows), b = load_floats<kLanes>(rows + kLanes);
  const F c = load_floats<kLanes>(rows + 2 * kLanes), d = load_floats<kLanes>(rows + 3 * kLanes);
  const F ab_low = shuffle<Interleave<kLanes, 0, false>>(a, b, all);
  const F ab_high = shuffle<Interleave<kLanes, 1, false>>(a, b, all);
  const F cd_low = shuffle<Interleave<kLanes, 0, false>>(c, d, all);
  const F cd_high = shuffle<Interleave<kLanes, 1, false>>(c, d, all);
  return {shuffle<Interleave<kLanes, 0, true>>(ab_low, cd_low, all),
          shuffle<Interleave<kLanes, 1, true>>(ab_low, cd_low, all),
          shuffle<Interleave<kLanes, 0, true>>(ab_high, cd_high, all),
          shuffle<Interleave<kLanes, 1, true>>(ab_high, cd_high, all)};
}

// Some labels for all measurers, and where they are counted: row r of measurer m in
// counts[m * stride + (kFirstBin + group * bins + bin) * copies + r % copies]. With several copies, neighbouring rows
// of one bin add to different counters and need not wait for each other.
struct Block {
  const void* pred;  // row 0 of the first measurer; the next measurer's is num_labels further
  const void* target;
  const int64_t* group;  // or null
  int64_t rows;
  int64_t num_measurers;
  int64_t num_labels;
  float eps;
  int32_t num_groups;
  int32_t bins;
  float* iou;
  uint32_t* counts;  // null: only the IoU is wanted
  int32_t stride;
  int shift;  // copies = 1 << shift
};

constexpr int32_t kInvalid = 0, kNowhere = 1, kFirstBin = 2;  // cells; nobody reads kNowhere
// Bytes to fetch ahead, and to own before they are written: the processor does not look past the counting by itself,
// and waits a third longer then.
constexpr int kReadAhead = 8192, kWriteAhead = 2048;
// Labels that one measurer scores before the next one's turn: few streams of memory and one measurer's counters at a
// time. The pseudo-boxes are made ready again for each, from the second cache.
constexpr int64_t kTile = 4096;

template <int kWrite>
CLIPVG_INLINE void prefetch(const void* from, int64_t bytes) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(from) + (kWrite ? kWriteAhead : kReadAhead);
  for (int64_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(first + line), kWrite);
  }
}

// The counters of kLanes rows, in order.
template <int kLanes>
CLIPVG_INLINE typename Lanes<kLanes>::I counters_of(typename Lanes<kLanes>::F iou, const int64_t* group,
                                                    const Block& block) {
  using F = typename Lanes<kLanes>::F;
  using I = typename Lanes<kLanes>::I;
  constexpr std::make_index_sequence<kLanes> all{};
  I lane;
  for (int j = 0; j < kLanes; ++j) lane[j] = j;
  // Truncation is floor in [0, 1]; lanes to be replaced count as 0 until then.
  I cell = __builtin_convertvector(bounded(iou) * static_cast<float>(block.bins), I);
  const I last = I{} + (block.bins - 1);
  cell = (cell < last ? cell : last) + kFirstBin;
  if (group) {
    const I first_half = load<I>(group), second_half = load<I>(group + kLanes / 2);
    const I low = shuffle<Words<0>>(first_half, second_half, all);
    const I high = shuffle<Words<1>>(first_half, second_half, all);
    const I inside = (high == 0) & (low >= 0) & (low < block.num_groups);
    cell = inside ? cell + (low & inside) * block.bins : I{} + kNowhere;
  }
  cell = iou == iou ? cell : I{} + kInvalid;
  return (cell << block.shift) | (lane & ((1 << block.shift) - 1));
}

// Counters wait here for a few steps: then they are in the cache, and adding to them overlaps with later arithmetic.
template <int kLanes>
class Pending {
 public:
  CLIPVG_INLINE explicit Pending(const Block& block) : counts_(block.counts) {
    for (auto& step : counter_) store(step, typename Lanes<kLanes>::I{} + (kNowhere << block.shift));
  }

  CLIPVG_INLINE void push(typename Lanes<kLanes>::I counter) {
    store(counter_[turn_], counter);
    turn_ = (turn_ + 1) % kSteps;
    count();
  }

  // Counts the oldest step.
  CLIPVG_INLINE void count() const {
    for (int j = 0; j < kLanes; j += 2) {
      const uint64_t two = load<uint64_t>(counter_[turn_] + j);  // one load for two
      ++counts_[static_cast<uint32_t>(two)];
      ++counts_[two >> 32];
    }
  }

  CLIPVG_INLINE void finish() {
    for (unsigned k = 1; k < kSteps; ++k) {
      turn_ = (turn_ + 1) % kSteps;
      count();
    }
  }

 private:
  static constexpr unsigned kSteps = 4;
  uint32_t* const counts_;
  unsigned turn_ = 0;
  int32_t counter_[kSteps][kLanes];
};

template <int kLanes, bool kCxcywh, typename T>
CLIPVG_INLINE void score_block(const Block block) {
  using F = typename Lanes<kLanes>::F;
  using I = typename Lanes<kLanes>::I;
  constexpr int64_t kBytes = 4 * kLanes * sizeof(T);
  const T* pred = static_cast<const T*>(block.pred);
  const T* target = static_cast<const T*>(block.target);
  Pending<kLanes> pending(block);
  const int64_t whole = block.rows / kLanes * kLanes;
  for (int64_t tile = 0; tile < whole; tile += kTile) {
    const int64_t end = tile + kTile < whole ? tile + kTile : whole;
    for (int64_t m = 0; m < block.num_measurers; ++m) {
      for (int64_t k = tile; k < end; k += kLanes) {
        const int64_t at = m * block.num_labels + k;
        if (m == 0) prefetch<0>(target + 4 * k, kBytes);
        prefetch<0>(pred + 4 * at, kBytes);
        prefetch<1>(block.iou + at, 4 * kLanes);
        const auto t = make_target<kCxcywh>(load_boxes<kLanes>(target + 4 * k));
        const F iou = in_order<kLanes>(row_iou<kCxcywh>(load_boxes<kLanes>(pred + 4 * at), t, block.eps));
        store(block.iou + at, iou);
        if (!block.counts) continue;
        const int64_t* group = block.group ? block.group + k : nullptr;
        pending.push(counters_of<kLanes>(iou, group, block) + static_cast<int32_t>(m * block.stride));
      }
    }
  }
  const int64_t rest = block.rows - whole;
  for (int64_t m = 0; rest && m < block.num_measurers; ++m) {  // as above, through padded copies
    const int64_t at = m * block.num_labels + whole;
    T boxes[2][4 * kLanes] = {};
    int64_t group[kLanes] = {};
    memcpy(boxes[0], pred + 4 * at, rest * 4 * sizeof(T));
    memcpy(boxes[1], target + 4 * whole, rest * 4 * sizeof(T));
    if (block.group) memcpy(group, block.group + whole, rest * sizeof(int64_t));
    const auto t = make_target<kCxcywh>(load_boxes<kLanes>(boxes[1]));
    const F iou = in_order<kLanes>(row_iou<kCxcywh>(load_boxes<kLanes>(boxes[0]), t, block.eps));
    memcpy(block.iou + at, &iou, rest * sizeof(float));
    if (!block.counts) continue;
    I counter = counters_of<kLanes>(iou, block.group ? group : nullptr, block) + static_cast<int32_t>(m * block.stride);
    for (int64_t k = rest; k < kLanes; ++k) counter[k] = kNowhere << block.shift;
    pending.push(counter);
  }
  if (block.counts) pending.finish();
}

}  // namespace clipvg
