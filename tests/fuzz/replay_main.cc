// Runs a fuzz target over its corpus: every file, and every prefix of every file, so that a parser
// meets each way a message can be cut short. A sanitizer build sees any byte read past the end.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::size_t kMaxPrefix = 8 * 1024;  // longer ones only repeat what shorter ones showed

// From a heap block of exactly this size: one byte past it is one byte too far.
void run(const std::vector<std::uint8_t>& bytes, std::size_t size) {
  const std::vector<std::uint8_t> exact(bytes.begin(), bytes.begin() + static_cast<long>(size));
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t files = 0;
  std::size_t inputs = 0;
  for (int i = 1; i < argc; ++i) {
    std::error_code missing;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i], missing)) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
      for (std::size_t size = 0; size < std::min(bytes.size(), kMaxPrefix); ++size, ++inputs) {
        run(bytes, size);
      }
      run(bytes, bytes.size());
      ++files;
      ++inputs;
    }
  }
  std::printf("%zu files, %zu inputs\n", files, inputs);
  if (files == 0) std::fputs("no corpus: nothing was tested\n", stderr);
  return files == 0 ? 1 : 0;
}
