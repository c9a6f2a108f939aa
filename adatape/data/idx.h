// Reader of IDX files, the format of MNIST and its relatives (http://yann.lecun.com/exdb/mnist/).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// Row-major bytes: labels [count] or images [count, height, width].
struct IdxArray {
  std::vector<int64_t> sizes;
  std::vector<uint8_t> values;
};

// Reads a whole IDX file of unsigned bytes with 1 or 3 dimensions, plain or gzip (told apart by content). The file is not trusted: at most
// what the header announces is decompressed, and no more than 2 GiB; memory grows with what really arrives, not with what is announced.
// Throws Error when the file cannot be read, is damaged, ends early or has bytes left over.
IdxArray read_idx(const std::string& path);

}  // namespace adatape
