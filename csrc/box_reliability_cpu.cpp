#include <algorithm>
#include <limits>
#include <thread>
#include <vector>

#include "box_reliability.h"

namespace clipvg {
namespace {

constexpr int64_t kRowsPerThread = 32768;  // below this, starting a thread costs more than it saves
constexpr int64_t kBlock = 1024;           // rows whose IoU is computed before they are counted: 4 KiB, stays in L1

inline void add(int64_t* counter, int64_t amount) { __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED); }

// Counts of one measurer. A private copy costs one pass over its cells to merge, so it is kept only where the
// rows outnumber the cells; otherwise threads add to the shared histogram atomically.
class Counts {
 public:
  Counts(const BoxReliabilityArgs& args, int64_t rows) : args_(args), cells_(args.num_groups * args.bins) {
    if (rows > cells_) local_.assign(cells_, 0);
  }

  void count(int64_t measurer, int64_t first_label, float* iou, int64_t rows) {
    int64_t* hist = local_.empty() ? args_.hist + measurer * cells_ : local_.data();
    int64_t invalid = 0;
    for (int64_t k = 0; k < rows; ++k) {
      if (!is_finite(iou[k])) {
        iou[k] = std::numeric_limits<float>::quiet_NaN();
        ++invalid;
        continue;
      }
      const int64_t group = args_.group ? args_.group[first_label + k] : 0;
      if (group < 0 || group >= args_.num_groups) continue;  // the Python face rejects it; never write outside
      int64_t* cell = hist + group * args_.bins + bin_of(iou[k], args_.bins);
      if (local_.empty()) {
        add(cell, 1);
      } else {
        ++*cell;
      }
    }
    if (invalid) add(args_.invalid + measurer, invalid);
  }

  void merge(int64_t measurer) {
    for (size_t cell = 0; cell < local_.size(); ++cell) {
      if (local_[cell]) add(args_.hist + measurer * cells_ + cell, local_[cell]);
      local_[cell] = 0;
    }
  }

 private:
  const BoxReliabilityArgs& args_;
  const int64_t cells_;
  std::vector<int64_t> local_;
};

// Rows [begin, end) of the flattened (measurer, label) pairs.
template <typename T, bool kCxcywh>
void score_rows(const BoxReliabilityArgs& args, int64_t begin, int64_t end) {
  const T* pred = static_cast<const T*>(args.pred);
  const T* target = static_cast<const T*>(args.target);
  Counts counts(args, std::min(end - begin, args.num_labels));
  while (begin < end) {
    const int64_t measurer = begin / args.num_labels;
    const int64_t stop = std::min(end, (measurer + 1) * args.num_labels);
    for (; begin < stop; begin = std::min(begin + kBlock, stop)) {
      const int64_t rows = std::min(kBlock, stop - begin);
      const int64_t label = begin - measurer * args.num_labels;
      float* iou = args.iou + begin;
      for (int64_t k = 0; k < rows; ++k) {
        iou[k] = row_iou<T, kCxcywh>(pred + 4 * (begin + k), target + 4 * (label + k), args.eps);
      }
      counts.count(measurer, label, iou, rows);
    }
    counts.merge(measurer);
  }
}

template <typename T>
void run(const BoxReliabilityArgs& args, int threads) {
  const int64_t rows = args.num_measurers * args.num_labels;
  const auto score = args.cxcywh ? score_rows<T, true> : score_rows<T, false>;
  const int64_t parts = std::clamp<int64_t>(rows / kRowsPerThread, 1, std::max(threads, 1));
  std::vector<std::thread> workers;
  for (int64_t part = 1; part < parts; ++part) {
    workers.emplace_back(score, std::cref(args), rows * part / parts, rows * (part + 1) / parts);
  }
  score(args, 0, rows / parts);
  for (auto& worker : workers) worker.join();
}

}  // namespace

void box_reliability_cpu(const BoxReliabilityArgs& args, int threads) {
  switch (args.dtype) {
    case Dtype::f32:
      return run<float>(args, threads);
    case Dtype::f64:
      return run<double>(args, threads);
    case Dtype::f16:
      return run<Half>(args, threads);
    case Dtype::bf16:
      return run<BFloat16>(args, threads);
  }
}

}  // namespace clipvg
