#include "adatape/core/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <streambuf>
#include <system_error>
#include <vector>

#include "adatape/core/check.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

std::string advice(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return "; free space or choose another --output";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; check its permissions or choose another --output";
    case ENOENT:
      return "; make its folder first";
    default:
      return "";
  }
}

[[noreturn]] void throw_cannot_write(const std::string& path, int code) {
  throw Error(concat("cannot write ", path, ": ", std::strerror(code), advice(code)));
}

// An ostream buffer over a descriptor. std::ofstream would lose errno, and cannot fsync.
class DescriptorBuffer : public std::streambuf {
 public:
  explicit DescriptorBuffer(int descriptor) : descriptor_(descriptor) { setp(memory_.data(), memory_.data() + memory_.size()); }
  int error_code() const { return error_code_; }

 protected:
  int_type overflow(int_type next) override {
    if (sync() != 0) return traits_type::eof();
    if (traits_type::eq_int_type(next, traits_type::eof())) return traits_type::not_eof(next);
    *pptr() = traits_type::to_char_type(next);
    pbump(1);
    return next;
  }
  int sync() override {
    const bool written = write_all(pbase(), static_cast<size_t>(pptr() - pbase()));
    setp(memory_.data(), memory_.data() + memory_.size());
    return written ? 0 : -1;
  }
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    if (size < epptr() - pptr()) return std::streambuf::xsputn(text, size);
    // Tensors are large: they go straight to the system.
    return sync() == 0 && write_all(text, static_cast<size_t>(size)) ? size : 0;
  }

 private:
  bool write_all(const char* text, size_t size) {
    while (size > 0 && error_code_ == 0) {
      const ssize_t written = ::write(descriptor_, text, size);
      if (written < 0) {
        if (errno != EINTR) error_code_ = errno;
        continue;
      }
      text += written;
      size -= static_cast<size_t>(written);
    }
    return error_code_ == 0;
  }

  int descriptor_;
  int error_code_ = 0;
  std::array<char, 1 << 16> memory_{};
};

// Writes through an open descriptor and closes it, also when the writer throws. Returns 0 or the system's error.
int write_and_close(int descriptor, const std::function<void(std::ostream&)>& write, bool sync) {
  DescriptorBuffer buffer(descriptor);
  try {
    std::ostream stream(&buffer);
    write(stream);
    stream.flush();
  } catch (...) {
    ::close(descriptor);
    // A writer that throws because its stream went bad is not the cause.
    if (buffer.error_code() != 0) return buffer.error_code();
    throw;
  }
  int code = buffer.error_code();
  if (code == 0 && sync && ::fsync(descriptor) != 0) code = errno;
  if (::close(descriptor) != 0 && code == 0) code = errno;  // network file systems report a full disk here
  return code;
}

// A rename is durable once its folder is; not every file system can sync one, so this is best effort.
void sync_path(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// A name beside path that no other process or thread picks; a leftover of a killed process with our id is stepped over by the caller.
fs::path partial_path(const fs::path& path) {
  static std::atomic<uint64_t> counter{0};
  // 200: the longest file name is 255 bytes.
  return folder_of(path) / concat(".", path.filename().string().substr(0, 200), ".", ::getpid(), ".", counter++, ".partial");
}

}  // namespace

void write_file_atomically(const std::string& path, std::string_view content) {
  write_file_atomically(path, [&](std::ostream& stream) { stream.write(content.data(), static_cast<std::streamsize>(content.size())); });
}

void write_file_atomically(const std::string& path, const std::function<void(std::ostream&)>& write) {
  std::error_code ignored;
  // A link keeps pointing where it did: what it names is replaced.
  const fs::path target = fs::is_symlink(path, ignored) ? fs::weakly_canonical(path, ignored) : fs::path(path);
  const fs::file_status status = fs::status(target, ignored);
  if (target.empty() || !target.has_filename() || fs::is_directory(status)) throw_cannot_write(path, target.empty() ? ENOENT : EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    // A device or a pipe (/dev/stdout) is written to; replacing it would be a surprise.
    const int descriptor = ::open(target.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) throw_cannot_write(path, errno);
    if (const int code = write_and_close(descriptor, write, /*sync=*/false); code != 0) throw_cannot_write(path, code);
    return;
  }
  fs::path partial;
  int descriptor = -1;
  do {
    partial = partial_path(target);
    descriptor = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor < 0 && (errno == EEXIST || errno == EINTR));
  if (descriptor < 0) throw_cannot_write(path, errno);
  int code = 0;
  try {
    code = write_and_close(descriptor, write, /*sync=*/true);
  } catch (...) {
    ::unlink(partial.c_str());
    throw;
  }
  if (code == 0 && ::rename(partial.c_str(), target.c_str()) != 0) code = errno;
  if (code != 0) {
    ::unlink(partial.c_str());
    throw_cannot_write(path, code);
  }
  sync_path(folder_of(target));
}

std::string read_file(const std::string& path) {
  const auto fail = [&](int code) { throw Error(concat("cannot read ", path, ": ", std::strerror(code))); };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(errno);
  std::string content;
  struct stat status {};
  if (::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) content.reserve(static_cast<size_t>(status.st_size));
  std::vector<char> memory(1 << 16);
  int code = 0;
  while (true) {
    const ssize_t got = ::read(descriptor, memory.data(), memory.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) code = errno;
    if (got <= 0) break;
    content.append(memory.data(), static_cast<size_t>(got));
  }
  ::close(descriptor);
  if (code != 0) fail(code);
  return content;
}

void make_directories(const std::string& path) {
  std::error_code code;
  fs::create_directories(path, code);
  // create_directories calls a file that stands in the way "Not a directory" or success, by place; the answer is what is there now.
  if (!code && !fs::is_directory(path)) code = std::make_error_code(std::errc::file_exists);
  if (code) throw Error(concat("cannot make folder ", path, ": ", code.message(), advice(code.value())));
}

void write_directory_atomically(const std::string& path, const std::function<void(const std::string&)>& fill) {
  fs::path target = path;
  if (!target.has_filename()) target = target.parent_path();  // "runs/a/"
  std::error_code code;
  if (target.empty()) throw_cannot_write(path, ENOENT);
  if (fs::exists(fs::symlink_status(target, code)))
    throw Error(concat("cannot write ", path, ": it exists; remove it or choose another --output"));
  fs::path partial;
  int made = -1;
  do {
    partial = partial_path(target);
    made = ::mkdir(partial.c_str(), 0777);
  } while (made != 0 && errno == EEXIST);
  if (made != 0) throw_cannot_write(path, errno);
  try {
    fill(partial.string());
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(partial)) sync_path(entry.path());
    sync_path(partial);
    if (::rename(partial.c_str(), target.c_str()) != 0) throw_cannot_write(path, errno);
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(partial, code);
    throw_cannot_write(path, error.code().value());
  } catch (...) {
    fs::remove_all(partial, code);
    throw;
  }
  sync_path(folder_of(target));
}

}  // namespace adatape
