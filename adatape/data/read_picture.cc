#include "adatape/data/read_picture.h"

#include <sys/stat.h>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/utf8.h"

namespace adatape {

std::string read_picture_file(const std::string& path, int64_t maximum_bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {  // else read_file says why
    ADATAPE_CHECK(S_ISREG(status.st_mode), printable(path), "expected a picture in a plain file, got ",
                  S_ISDIR(status.st_mode) ? "a folder" : "a pipe, device or socket");
    ADATAPE_CHECK(status.st_size <= maximum_bytes, printable(path), "expected a picture of at most ", maximum_bytes, " bytes, got ",
                  status.st_size);
  }
  return read_file(path);
}

}  // namespace adatape
