#include "adatape/data/idx.h"

#include <algorithm>
#include <sstream>

#include "adatape/core/check.h"
#include "adatape/data/byte_source.h"

namespace adatape {
namespace {

constexpr uint64_t kMaximumBytes = uint64_t{1} << 31;
constexpr uint64_t kChunkBytes = uint64_t{1} << 24;
constexpr uint8_t kUnsignedByte = 0x08;

std::string product_text(const std::vector<int64_t>& sizes) {
  std::ostringstream text;
  for (size_t i = 0; i < sizes.size(); ++i) text << (i == 0 ? "" : " x ") << sizes[i];
  return text.str();
}

void read_header_bytes(ByteSource& source, uint8_t* to, size_t count) {
  const size_t got = source.read(to, count);
  ADATAPE_CHECK(got == count, "data", source.name(), ": expected an IDX header, got a file that ends inside it");
}

}  // namespace

IdxArray read_idx(const std::string& path) {
  ByteSource source(path);
  const std::string& name = source.name();

  uint8_t magic[4];  // 0, 0, type, dimensions
  read_header_bytes(source, magic, sizeof magic);
  ADATAPE_CHECK(magic[0] == 0 && magic[1] == 0 && magic[2] == kUnsignedByte && (magic[3] == 1 || magic[3] == 3), "data", name,
                ": expected an IDX file of bytes with 1 or 3 dimensions (first bytes 0 0 8 1 or 0 0 8 3), got first bytes ", int{magic[0]},
                ' ', int{magic[1]}, ' ', int{magic[2]}, ' ', int{magic[3]});

  IdxArray array;
  uint64_t announced = 1;
  for (int axis = 0; axis < magic[3]; ++axis) {
    uint8_t size[4];
    read_header_bytes(source, size, sizeof size);
    array.sizes.push_back(int64_t{size[0]} << 24 | int64_t{size[1]} << 16 | int64_t{size[2]} << 8 | int64_t{size[3]});
    announced *= static_cast<uint64_t>(array.sizes.back());  // cannot wrap: at most 2^31 before, less than 2^32 now
    ADATAPE_CHECK(announced <= kMaximumBytes, "data", name, ": expected at most ", kMaximumBytes, " bytes, got a header that announces ",
                  product_text(array.sizes), axis + 1 < magic[3] ? " ..." : "");
  }

  while (array.values.size() < announced) {
    const uint64_t done = array.values.size();
    const uint64_t wanted = std::min(kChunkBytes, announced - done);
    array.values.resize(done + wanted);
    const uint64_t got = source.read(array.values.data() + done, wanted);
    ADATAPE_CHECK(got == wanted, "data", name, ": expected ", announced, " bytes (", product_text(array.sizes), "), got ", done + got);
  }
  uint8_t extra;
  ADATAPE_CHECK(source.read(&extra, 1) == 0, "data", name, ": expected ", announced, " bytes (", product_text(array.sizes), "), got more");
  return array;
}

}  // namespace adatape
