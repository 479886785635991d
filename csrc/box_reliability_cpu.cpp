#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "box_reliability.h"
#include "box_reliability_lanes.h"

namespace clipvg {
namespace {

constexpr int64_t kRowsPerTask = 32768;       // below this, a thread costs more than it saves
constexpr int64_t kLabelsPerBlock = 2048;     // their IoU is still in the cache when it is counted
constexpr int64_t kLabelsPerCount = 1 << 30;  // no 32-bit counter overflows
constexpr int64_t kCopiedCells = 8192;        // 32 KiB: counters with their copies stay in the first cache
constexpr int64_t kPrivateCells = 1 << 20;    // 4 MiB of counters a thread at most
constexpr int64_t kHugePage = int64_t{2} << 20;

using ScoreBlock = void (*)(const Block&);

template <typename T, bool kCxcywh>
void generic(const Block& block) {
  score_block<4, kCxcywh, T>(block);
}

#ifdef __x86_64__
template <typename T, bool kCxcywh>
__attribute__((target("avx2"))) void avx2(const Block& block) {
  score_block<8, kCxcywh, T>(block);
}

template <typename T, bool kCxcywh>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void avx512(const Block& block) {
  score_block<16, kCxcywh, T>(block);
}
#endif

enum class Isa { generic, avx2, avx512 };

struct IsaChoice {
  Isa isa;
  const char* error;
};

// The widest that the processor and the system support, unless CLIPVG_CPU_ISA names one.
IsaChoice choose_isa() {
  Isa best = Isa::generic;
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) best = Isa::avx2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    best = Isa::avx512;
  }
#endif
  const char* name = std::getenv("CLIPVG_CPU_ISA");
  if (!name || !*name) return {best, nullptr};
  constexpr const char* names[] = {"generic", "avx2", "avx512"};
  for (int k = 0; k < 3; ++k) {
    if (std::strcmp(name, names[k]) != 0) continue;
    if (static_cast<Isa>(k) <= best) return {static_cast<Isa>(k), nullptr};
    return {best, "CLIPVG_CPU_ISA names instructions that this processor lacks; unset it"};
  }
  return {best, "CLIPVG_CPU_ISA is none of generic, avx2 and avx512; unset it"};
}

template <typename T, bool kCxcywh>
ScoreBlock variant([[maybe_unused]] Isa isa) {
#ifdef __x86_64__
  if (isa == Isa::avx512) return avx512<T, kCxcywh>;
  if (isa == Isa::avx2) return avx2<T, kCxcywh>;
#endif
  return generic<T, kCxcywh>;
}

template <typename T>
ScoreBlock variant(Isa isa, bool cxcywh) {
  return cxcywh ? variant<T, true>(isa) : variant<T, false>(isa);
}

ScoreBlock variant(Isa isa, bool cxcywh, Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return variant<double>(isa, cxcywh);
    case Dtype::f16:
      return variant<Half>(isa, cxcywh);
    case Dtype::bf16:
      return variant<BFloat16>(isa, cxcywh);
    case Dtype::f32:
      break;
  }
  return variant<float>(isa, cxcywh);
}

int64_t size_of(Dtype dtype) { return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2; }

inline void add(int64_t* counter, int64_t amount) { __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED); }

// The counters of one thread for all measurers. They cost a pass over them to clear and to merge, so they are kept
// only where rows outnumber cells; otherwise rows are added to the shared histogram, atomically.
class Counts {
 public:
  Counts(const BoxReliabilityArgs& args, int64_t labels) : args_(args), cells_(args.num_groups * args.bins) {
    const int64_t rows = std::min(labels, kLabelsPerCount);
    if (cells_ > std::min(rows, kPrivateCells / args.num_measurers)) return;
    while (shift_ > 0 && cells_ << shift_ > std::min(rows, kCopiedCells)) --shift_;
    stride_ = (cells_ + kFirstBin) << shift_;
    // Without memory for it, the shared histogram will do.
    local_.reset(new (std::nothrow) uint32_t[args.num_measurers * stride_]());
  }

  uint32_t* local() { return local_.get(); }
  int32_t stride() const { return static_cast<int32_t>(stride_); }
  int shift() const { return shift_; }

  // Counts labels whose IoU is known in the shared histogram.
  void count_shared(int64_t first_label, int64_t labels) const {
    for (int64_t measurer = 0; measurer < args_.num_measurers; ++measurer) {
      const float* iou = args_.iou + measurer * args_.num_labels + first_label;
      int64_t invalid = 0;
      for (int64_t k = 0; k < labels; ++k) {
        const int64_t group = args_.group ? args_.group[first_label + k] : 0;
        if (!(iou[k] == iou[k])) {
          ++invalid;
        } else if (group >= 0 && group < args_.num_groups) {  // the Python face rejects others; never write outside
          add(args_.hist + measurer * cells_ + group * args_.bins + bin_of(iou[k], args_.bins), 1);
        }
      }
      if (invalid) add(args_.invalid + measurer, invalid);
    }
  }

  // Adds the private counters to the shared ones and clears them.
  void merge() {
    for (int64_t measurer = 0; measurer < args_.num_measurers; ++measurer) {
      add(args_.invalid + measurer, take(measurer, kInvalid));
      for (int64_t cell = 0; cell < cells_; ++cell) {
        if (const int64_t sum = take(measurer, kFirstBin + cell)) add(args_.hist + measurer * cells_ + cell, sum);
      }
    }
  }

 private:
  int64_t take(int64_t measurer, int64_t cell) {
    uint32_t* copy = local_.get() + measurer * stride_ + (cell << shift_);
    int64_t sum = 0;
    for (int k = 0; k < 1 << shift_; ++k) {
      sum += copy[k];
      copy[k] = 0;
    }
    return sum;
  }

  const BoxReliabilityArgs& args_;
  const int64_t cells_;
  int64_t stride_ = 0;
  int shift_ = 3;
  std::unique_ptr<uint32_t[]> local_;
};

void score_labels(const BoxReliabilityArgs& args, ScoreBlock score, int64_t begin, int64_t end) {
  const int64_t box_bytes = 4 * size_of(args.dtype);
  Counts counts(args, end - begin);
  const int64_t step = counts.local() ? kLabelsPerCount : kLabelsPerBlock;
  for (int64_t first = begin; first < end; first += step) {
    const int64_t rows = std::min(step, end - first);
    score({static_cast<const char*>(args.pred) + first * box_bytes,
           static_cast<const char*>(args.target) + first * box_bytes, args.group ? args.group + first : nullptr, rows,
           args.num_measurers, args.num_labels, args.eps, static_cast<int32_t>(args.num_groups),
           static_cast<int32_t>(args.bins), args.iou + first, counts.local(), counts.stride(), counts.shift()});
    counts.local() ? counts.merge() : counts.count_shared(first, rows);
  }
}

// Fresh memory of the system's small pages costs more to touch first than the kernel takes to fill it.
void ask_for_huge_pages(float* iou, int64_t rows) {
#ifdef MADV_HUGEPAGE
  const uintptr_t page = kHugePage, begin = reinterpret_cast<uintptr_t>(iou);
  const uintptr_t first = (begin + page - 1) / page * page, last = (begin + rows * sizeof(float)) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a hint: it may fail
#else
  (void)iou, (void)rows;
#endif
}

}  // namespace

const char* box_reliability_cpu(const BoxReliabilityArgs& args, int threads, const RunTasks& run_tasks) {
  const IsaChoice choice = choose_isa();
  if (choice.error) return choice.error;
  const int64_t labels = args.num_labels, rows = args.num_measurers * labels;
  if (rows == 0) return nullptr;
  ask_for_huge_pages(args.iou, rows);
  const ScoreBlock score = variant(choice.isa, args.cxcywh, args.dtype);
  const int64_t tasks = std::min(std::clamp<int64_t>(rows / kRowsPerTask, 1, std::max(threads, 1)), labels);
  const auto task = [&](int64_t k) { score_labels(args, score, labels * k / tasks, labels * (k + 1) / tasks); };
  if (tasks == 1) {
    task(0);
  } else {
    run_tasks(tasks, task);
  }
  return nullptr;
}

}  // namespace clipvg
