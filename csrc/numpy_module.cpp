// clipvg._C: the CPU kernels on NumPy arrays. Never touches libtorch, so it works where torch is absent.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <stdexcept>
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

// Shapes and values are checked by clipvg.ops in words for people; here only what memory safety needs.
py::tuple box_reliability(const Array<float>& pred, const Array<float>& target,
                          const std::optional<Array<int64_t>>& group, int64_t num_groups, int64_t bins, bool cxcywh,
                          double eps, int threads) {
  const bool shapes_agree = pred.ndim() == 3 && pred.shape(2) == 4 && target.ndim() == 2 && target.shape(1) == 4 &&
                            target.shape(0) == pred.shape(1);
  const bool group_agrees = !group || (group->ndim() == 1 && group->shape(0) == pred.shape(1));
  if (!shapes_agree || !group_agrees || num_groups < 1 || bins < 1) {
    throw std::invalid_argument("box_reliability: pred (n, N, 4), target (N, 4), group (N,), num_groups and bins >= 1");
  }
  const py::ssize_t measurers = pred.shape(0), labels = pred.shape(1);
  Array<float> iou({measurers, labels});
  auto hist = zeros<int64_t>({measurers, num_groups, bins});
  auto invalid = zeros<int64_t>({measurers});
  const clipvg::BoxReliabilityArgs args{pred.data(),
                                        target.data(),
                                        group ? group->data() : nullptr,
                                        clipvg::Dtype::f32,
                                        cxcywh,
                                        measurers,
                                        labels,
                                        num_groups,
                                        bins,
                                        static_cast<float>(eps),
                                        iou.mutable_data(),
                                        hist.mutable_data(),
                                        invalid.mutable_data()};
  {
    py::gil_scoped_release release;
    clipvg::box_reliability_cpu(args, threads);
  }
  return py::make_tuple(iou, hist, invalid);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "CPU kernels of clipvg on NumPy arrays; call them through clipvg.ops.";
  m.def("box_reliability", &box_reliability, py::arg("pred"), py::arg("target"), py::arg("group").none(true),
        py::kw_only(), py::arg("num_groups"), py::arg("bins"), py::arg("cxcywh"), py::arg("eps"), py::arg("threads"),
        "IoU (n, N) float32, histogram (n, num_groups, bins) int64 and count of invalid rows (n,) int64.");
}
