#include "adatape/data/byte_source.h"

#include <zlib.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 16;
constexpr int kGzipOnly = 16 + MAX_WBITS;  // inflateInit2: a gzip wrapper, nothing else

}  // namespace

// inflate() itself rather than gzread(): gzread passes over garbage behind a gzip stream.
struct ByteSource::Impl {
  std::string name;
  std::FILE* file = nullptr;
  bool gzip = false, inflating = false;
  bool member_open = false;  // inside a gzip member, whose end has not come yet
  z_stream stream{};
  std::vector<uint8_t> buffer = std::vector<uint8_t>(kBufferBytes);

  ~Impl() {
    if (inflating) inflateEnd(&stream);
    if (file != nullptr) std::fclose(file);
  }

  // Makes sure that input is buffered; false at the end of the file.
  bool refill() {
    if (stream.avail_in > 0) return true;
    const size_t got = std::fread(buffer.data(), 1, buffer.size(), file);
    ADATAPE_CHECK(std::ferror(file) == 0, "data", name, ": expected a readable file, got \"", std::strerror(errno), '"');
    stream.next_in = buffer.data();
    stream.avail_in = static_cast<uInt>(got);
    return got > 0;
  }

  size_t copy(uint8_t* to, size_t count) {
    const size_t taken = std::min<size_t>(count, stream.avail_in);
    std::memcpy(to, stream.next_in, taken);
    stream.next_in += taken;
    stream.avail_in -= static_cast<uInt>(taken);
    return taken;
  }

  size_t inflate_some(uint8_t* to, size_t count) {
    stream.next_out = to;
    const auto wanted = static_cast<uInt>(std::min<size_t>(count, std::numeric_limits<uInt>::max()));
    stream.avail_out = wanted;
    if (!member_open) {  // gzip files may hold several members one after another (pigz, bgzip)
      inflateReset(&stream);
      member_open = true;
    }
    const int result = inflate(&stream, Z_NO_FLUSH);
    ADATAPE_CHECK(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, "data", name, ": expected intact gzip data, got \"",
                  stream.msg != nullptr ? stream.msg : zError(result), '"');
    if (result == Z_STREAM_END) member_open = false;
    return wanted - stream.avail_out;
  }
};

ByteSource::ByteSource(const std::string& path) : impl_(std::make_unique<Impl>()) {
  impl_->name = std::filesystem::path(path).filename().string();
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  ADATAPE_CHECK(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status), "data", impl_->name,
                ": expected a plain file at ", path, ", got a ",
                std::filesystem::is_directory(status) ? "folder" : "pipe, device or socket");  // which would wait for ever
  impl_->file = std::fopen(path.c_str(), "rb");
  ADATAPE_CHECK(impl_->file != nullptr, "data", impl_->name, ": expected a readable file at ", path, ", got \"", std::strerror(errno), '"');
  impl_->refill();
  impl_->gzip = impl_->stream.avail_in >= 2 && impl_->buffer[0] == 0x1f && impl_->buffer[1] == 0x8b;
  if (!impl_->gzip) return;
  ADATAPE_CHECK(inflateInit2(&impl_->stream, kGzipOnly) == Z_OK, "data", impl_->name, ": zlib could not start (out of memory?)");
  impl_->inflating = true;
  impl_->member_open = true;
}

ByteSource::~ByteSource() = default;

const std::string& ByteSource::name() const { return impl_->name; }

size_t ByteSource::read(uint8_t* to, size_t count) {
  size_t done = 0;
  while (done < count) {
    // inflate() may hold output back without needing input, but it never does so at the end of the file: the trailer is input too.
    if (!impl_->refill()) {
      ADATAPE_CHECK(!impl_->member_open, "data", impl_->name, ": expected a complete gzip file, got one cut off");
      break;
    }
    done += impl_->gzip ? impl_->inflate_some(to + done, count - done) : impl_->copy(to + done, count - done);
  }
  return done;
}

}  // namespace adatape
