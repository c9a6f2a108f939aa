#include "adatape/train/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "adatape/core/check.h"

namespace adatape {
namespace {

[[noreturn]] void fail(const std::string& path) {
  throw Error(concat("cannot write ", path, ": ", std::strerror(errno), errno == ENOSPC ? "; free space, then go on with --resume" : ""));
}

}  // namespace

AppendFile::AppendFile(const std::string& path, int64_t keep_bytes) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(path_);
  written_ = ::lseek(descriptor_, 0, SEEK_END);
  if (written_ > keep_bytes) {
    if (::ftruncate(descriptor_, keep_bytes) != 0 || ::lseek(descriptor_, keep_bytes, SEEK_SET) < 0) fail(path_);
    written_ = keep_bytes;
  }
}

AppendFile::AppendFile(const std::string& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(path_);
}

AppendFile::~AppendFile() {
  try {
    flush();
  } catch (const Error&) {  // a destructor cannot report it; the next flush of the file's owner would have
  }
  ::close(descriptor_);
}

void AppendFile::flush() {
  while (!pending_.empty()) {
    const ssize_t written = ::write(descriptor_, pending_.data(), pending_.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(path_);
    }
    written_ += written;
    pending_.erase(0, static_cast<size_t>(written));
  }
}

}  // namespace adatape
