// clipvg._C: the CPU kernels on NumPy arrays. Never touches libtorch, so it works where torch is absent.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "box_reliability.h"

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <typename T>
Array<T> zeros(std::vector<py::ssize_t> shape) {
  Array<T> array(shape);
  std::memset(array.mutable_data(), 0, static_cast<size_t>(array.nbytes()));
  return array;
}

// Native byte order only: an array of another has another dtype.
clipvg::Dtype to_dtype(const py::array& boxes) {
  if (boxes.dtype().equal(py::dtype::of<float>())) return clipvg::Dtype::f32;
  if (boxes.dtype().equal(py::dtype::of<double>())) return clipvg::Dtype::f64;
  if (boxes.dtype().equal(py::dtype("e"))) return clipvg::Dtype::f16;
  throw std::invalid_argument("box_reliability: boxes must be float32, float64 or float16");
}

// A new thread for every task but the first; where the system grants none, the caller does the rest itself.
void run_tasks(int64_t tasks, const std::function<void(int64_t)>& task) {
  std::vector<std::thread> workers;
  workers.reserve(static_cast<size_t>(tasks));
  int64_t next = 1;
  try {
    for (; next < tasks; ++next) workers.emplace_back(std::cref(task), next);
  } catch (const std::system_error&) {
  }
  task(0);
  for (; next < tasks; ++next) task(next);
  for (auto& worker : workers) worker.join();
}

// Shapes and values are checked by clipvg.ops in words for people; here only what memory safety needs.
void check(const py::array& pred, const py::array& target, const std::optional<Array<int64_t>>& group,
           int64_t num_groups, int64_t bins, double eps) {
  const bool shapes_agree = pred.ndim() == 3 && pred.shape(2) == 4 && target.ndim() == 2 && target.shape(1) == 4 &&
                            target.shape(0) == pred.shape(1);
  const bool group_agrees = !group || (group->ndim() == 1 && group->shape(0) == pred.shape(1));
  const bool sizes_fit = 1 <= num_groups && num_groups <= clipvg::kMaxGroups && 1 <= bins && bins <= clipvg::kMaxBins;
  if (!shapes_agree || !group_agrees || !sizes_fit) {
    throw std::invalid_argument(
        "box_reliability: pred (n, N, 4), target (N, 4), group (N,), num_groups 1 to 2^31 - 1, bins 1 to 2^24");
  }
  if (const char* error = clipvg::why_not(pred.shape(0), num_groups, bins, eps)) {
    throw std::invalid_argument(std::string("box_reliability: ") + error);
  }
  if (!pred.dtype().equal(target.dtype())) {
    throw std::invalid_argument("box_reliability: pred and target must share their dtype");
  }
}

py::tuple box_reliability(const py::array& any_pred, const py::array& any_target,
                          const std::optional<Array<int64_t>>& group, int64_t num_groups, int64_t bins, bool cxcywh,
                          double eps, int threads) {
  check(any_pred, any_target, group, num_groups, bins, eps);
  const py::array pred = py::array::ensure(any_pred, py::array::c_style);
  const py::array target = py::array::ensure(any_target, py::array::c_style);
  const py::ssize_t measurers = pred.shape(0), labels = pred.shape(1);
  Array<float> iou({measurers, labels});
  auto hist = zeros<int64_t>({measurers, num_groups, bins});
  auto invalid = zeros<int64_t>({measurers});
  const clipvg::BoxReliabilityArgs args{pred.data(),
                                        target.data(),
                                        group ? group->data() : nullptr,
                                        to_dtype(pred),
                                        cxcywh,
                                        measurers,
                                        labels,
                                        num_groups,
                                        bins,
                                        static_cast<float>(eps),
                                        iou.mutable_data(),
                                        hist.mutable_data(),
                                        invalid.mutable_data()};
  const char* error;
  {
    py::gil_scoped_release release;
    error = clipvg::box_reliability_cpu(args, threads, run_tasks);
  }
  if (error) throw std::invalid_argument(std::string("box_reliability: ") + error);
  return py::make_tuple(iou, hist, invalid);
}

// A side, 0 where the box is reversed; NaN stays, as with numpy.maximum.
double side(double low, double high) {
  const double length = high - low;
  return length <= 0 ? 0 : length;
}

double area(const double* box) { return side(box[0], box[2]) * side(box[1], box[3]); }

// The arithmetic of clipvg.boxes.iou, in its order. A NaN makes an area NaN, whatever min and max make of it.
Array<double> iou(const Array<double>& a, const Array<double>& b, double eps) {
  if (a.ndim() != 2 || a.shape(1) != 4 || b.ndim() != 2 || b.shape(1) != 4 || a.shape(0) != b.shape(0)) {
    throw std::invalid_argument("iou: expected two arrays (N, 4)");
  }
  const py::ssize_t count = a.shape(0);
  Array<double> result({count});
  const double *p = a.data(), *q = b.data();
  double* out = result.mutable_data();
  py::gil_scoped_release release;
  for (py::ssize_t i = 0; i < count; ++i, p += 4, q += 4) {
    const double width = side(std::max(p[0], q[0]), std::min(p[2], q[2]));
    const double height = side(std::max(p[1], q[1]), std::min(p[3], q[3]));
    const double intersection = width * height;
    out[i] = intersection / (area(p) + area(q) - intersection + eps);
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "CPU kernels of clipvg on NumPy arrays; call them through clipvg.ops.";
  m.def("box_reliability", &box_reliability, py::arg("pred"), py::arg("target"), py::arg("group").none(true),
        py::kw_only(), py::arg("num_groups"), py::arg("bins"), py::arg("cxcywh"), py::arg("eps"), py::arg("threads"),
        "IoU (n, N) float32, histogram (n, num_groups, bins) int64 and count of invalid rows (n,) int64.");
  m.def("iou", &iou, py::arg("a"), py::arg("b"), py::arg("eps"),
        "IoU (N,) float64 of boxes (N, 4) xyxy with as many others.");
}
