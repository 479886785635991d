// Adds the kernels of this folder to the operators that Python defines (clipvg/ops), through LibTorch's stable ABI:
// one binary for every torch >= 2.10. Loaded by torch.ops.load_library; no Python API, nothing of at:: or c10::.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <tuple>

#include "box_reliability.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

clipvg::Dtype to_dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return clipvg::Dtype::f32;
    case ScalarType::Double:
      return clipvg::Dtype::f64;
    case ScalarType::Half:
      return clipvg::Dtype::f16;
    case ScalarType::BFloat16:
      return clipvg::Dtype::bf16;
    default:
      STD_TORCH_CHECK(false, "box_reliability: boxes must be float32, float64, float16 or bfloat16");
  }
  return clipvg::Dtype::f32;
}

// Contiguous, and aligned so that the CUDA kernel may load a box at once: a slice of a flat buffer need not be.
Tensor packed(const Tensor& tensor) {
  Tensor dense = torch::stable::contiguous(tensor);
  return reinterpret_cast<uintptr_t>(dense.data_ptr()) % 16 == 0 ? dense : torch::stable::clone(dense);
}

void check(const Tensor& pred, const Tensor& target, const std::optional<Tensor>& group, int64_t num_groups,
           int64_t bins, const std::string& fmt, double eps) {
  STD_TORCH_CHECK(pred.dim() == 3 && pred.size(2) == 4, "box_reliability: pred must have shape (n, N, 4)");
  STD_TORCH_CHECK(target.dim() == 2 && target.size(1) == 4 && target.size(0) == pred.size(1),
                  "box_reliability: target must have shape (N, 4) with the N of pred");
  STD_TORCH_CHECK(target.scalar_type() == pred.scalar_type() && target.device() == pred.device(),
                  "box_reliability: pred and target must share dtype and device");
  STD_TORCH_CHECK(1 <= bins && bins <= clipvg::kMaxBins, "box_reliability: bins must be 1 to 2^24");
  STD_TORCH_CHECK(1 <= num_groups && num_groups <= clipvg::kMaxGroups,
                  "box_reliability: num_groups must be 1 to 2^31 - 1");
  STD_TORCH_CHECK(fmt == "cxcywh" || fmt == "xyxy", "box_reliability: fmt must be 'cxcywh' or 'xyxy'");
  const char* error = clipvg::why_not(pred.size(0), num_groups, bins, eps);
  STD_TORCH_CHECK(error == nullptr, "box_reliability: ", error ? error : "");
  if (group) {
    STD_TORCH_CHECK(group->dim() == 1 && group->size(0) == pred.size(1) && group->scalar_type() == ScalarType::Long &&
                        group->device() == pred.device(),
                    "box_reliability: group must be int64 of shape (N,) on the device of pred");
  }
}

struct Run {
  Tensor pred, target, iou, hist, invalid;
  std::optional<Tensor> group;
  clipvg::BoxReliabilityArgs args;
};

Run prepare(const Tensor& pred, const Tensor& target, const std::optional<Tensor>& group, int64_t num_groups,
            int64_t bins, const std::string& fmt, double eps) {
  check(pred, target, group, num_groups, bins, fmt, eps);
  const int64_t measurers = pred.size(0), labels = pred.size(1);
  Run run{packed(pred),
          packed(target),
          torch::stable::new_empty(pred, {measurers, labels}, ScalarType::Float),
          torch::stable::new_zeros(pred, {measurers, num_groups, bins}, ScalarType::Long),
          torch::stable::new_zeros(pred, {measurers}, ScalarType::Long),
          std::nullopt,
          {}};
  if (group) run.group = torch::stable::contiguous(*group);
  run.args = {run.pred.data_ptr(),
              run.target.data_ptr(),
              run.group ? static_cast<const int64_t*>(run.group->data_ptr()) : nullptr,
              to_dtype(pred.scalar_type()),
              fmt == "cxcywh",
              measurers,
              labels,
              num_groups,
              bins,
              static_cast<float>(eps),
              static_cast<float*>(run.iou.data_ptr()),
              static_cast<int64_t*>(run.hist.data_ptr()),
              static_cast<int64_t*>(run.invalid.data_ptr())};
  return run;
}

using Result = std::tuple<Tensor, Tensor, Tensor>;

Result box_reliability_cpu(Tensor pred, Tensor target, std::optional<Tensor> group, int64_t num_groups, int64_t bins,
                           std::string fmt, double eps) {
  Run run = prepare(pred, target, group, num_groups, bins, fmt, eps);
  // Torch's own threads: they are awake already, and its settings and limits hold.
  const auto run_tasks = [](int64_t tasks, const std::function<void(int64_t)>& task) {
    torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) task(k);
    });
  };
  const int threads = static_cast<int>(torch::stable::get_num_threads());
  const char* error = clipvg::box_reliability_cpu(run.args, threads, run_tasks);
  STD_TORCH_CHECK(error == nullptr, "box_reliability: ", error ? error : "");
  return {run.iou, run.hist, run.invalid};
}

#ifdef CLIPVG_CUDA
Result box_reliability_cuda(Tensor pred, Tensor target, std::optional<Tensor> group, int64_t num_groups, int64_t bins,
                            std::string fmt, double eps) {
  const int32_t device = pred.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  Run run = prepare(pred, target, group, num_groups, bins, fmt, eps);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  const char* error = clipvg::box_reliability_cuda(run.args, stream);
  STD_TORCH_CHECK(error == nullptr, "box_reliability: ", error ? error : "");
  return {run.iou, run.hist, run.invalid};
}
#endif

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(clipvg, CPU, m) { m.impl("box_reliability", TORCH_BOX(&box_reliability_cpu)); }

#ifdef CLIPVG_CUDA
#define CLIPVG_TEXT_OF(...) #__VA_ARGS__
#define CLIPVG_TEXT(...) CLIPVG_TEXT_OF(__VA_ARGS__)

// The compiler's CUDA version, and what the kernels were compiled for: "13000 sm_90, compute_90".
extern "C" __attribute__((visibility("default"))) const char* clipvg_cuda_code() {
  return CLIPVG_TEXT(CLIPVG_TOOLKIT) " " CLIPVG_TEXT(CLIPVG_TARGETS);
}

STABLE_TORCH_LIBRARY_IMPL(clipvg, CUDA, m) { m.impl("box_reliability", TORCH_BOX(&box_reliability_cuda)); }
#endif
