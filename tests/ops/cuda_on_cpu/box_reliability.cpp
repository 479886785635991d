// Runs the CUDA kernel of box_reliability on a CPU, over the files of a folder. KERNEL is csrc/box_reliability_cuda.cu,
// whose launches the test has rewritten. Every array is a block of the heap of its own, so that the address sanitizer
// sees what is read or written beside it.
namespace clipvg {
namespace {
unsigned local[48 * 1024 / sizeof(unsigned)];  // the shared memory of a block
}
}  // namespace clipvg

#include <filesystem>
#include <fstream>
#include <string>

#include KERNEL

namespace {

using Bytes = std::unique_ptr<char[]>;
namespace fs = std::filesystem;

Bytes read(const fs::path& file) {
  if (!fs::exists(file)) return nullptr;
  const size_t size = fs::file_size(file);
  Bytes bytes(new char[size]);
  std::ifstream(file, std::ios::binary).read(bytes.get(), static_cast<std::streamsize>(size));
  return bytes;
}

template <typename T>
std::unique_ptr<T[]> zeros(int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(count)]());
}

template <typename T>
void write(const fs::path& file, const std::unique_ptr<T[]>& values, int64_t count) {
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.get()), count * static_cast<std::streamsize>(sizeof(T)));
}

}  // namespace

// box_reliability FOLDER DTYPE CXCYWH MEASURERS LABELS GROUPS BINS EPS
int main(int, char** arguments) {
  const fs::path folder = arguments[1];
  const auto number = [&](int k) { return int64_t{std::stoll(arguments[k])}; };
  const int64_t measurers = number(4), labels = number(5), cells = number(6) * number(7);
  const Bytes pred = read(folder / "pred"), target = read(folder / "target"), group = read(folder / "group");
  const auto iou = zeros<float>(measurers * labels);
  const auto hist = zeros<int64_t>(measurers * cells), invalid = zeros<int64_t>(measurers);
  const char* error =
      clipvg::box_reliability_cuda({pred.get(), target.get(), reinterpret_cast<const int64_t*>(group.get()),
                                    static_cast<clipvg::Dtype>(number(2)), number(3) != 0, measurers, labels, number(6),
                                    number(7), std::stof(arguments[8]), iou.get(), hist.get(), invalid.get()},
                                   nullptr);
  if (error) on_cpu::fail(error);
  write(folder / "iou", iou, measurers * labels);
  write(folder / "hist", hist, measurers * cells);
  write(folder / "invalid", invalid, measurers);
}
