#include "adatape/data/tar_shards.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>

#include "adatape/core/check.h"
#include "adatape/core/utf8.h"
#include "adatape/data/image_folder.h"
#include "adatape/data/read_picture.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTarBlock = 512;
constexpr int64_t kLongestName = 1 << 16;
constexpr int64_t kLargestClass = 1 << 24;

// A file open for reading at places.
class PlacedFile {
 public:
  explicit PlacedFile(const std::string& path) : name_(printable(path)) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for who writes
    ADATAPE_CHECK(descriptor_ >= 0, name_, "expected a readable tar file, got \"", std::strerror(errno), '"');
    struct stat status {};
    const bool plain = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
    if (!plain) ::close(descriptor_);
    ADATAPE_CHECK(plain, name_, "expected a plain file, got a folder, pipe, device or socket");
    size_ = status.st_size;
  }
  ~PlacedFile() { ::close(descriptor_); }
  PlacedFile(const PlacedFile&) = delete;
  PlacedFile& operator=(const PlacedFile&) = delete;

  int64_t size() const { return size_; }
  const std::string& name() const { return name_; }
  void read(int64_t offset, char* to, int64_t count) const {
    for (int64_t done = 0; done < count;) {
      const ssize_t got = ::pread(descriptor_, to + done, static_cast<size_t>(count - done), offset + done);
      if (got < 0 && errno == EINTR) continue;
      ADATAPE_CHECK(got > 0, name_, "expected ", count, " bytes at ", offset, ", got ", got < 0 ? std::strerror(errno) : "the file's end");
      done += got;
    }
  }

 private:
  std::string name_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

using Header = std::array<char, kTarBlock>;

std::string text_of(const char* field, size_t size) { return {field, ::strnlen(field, size)}; }

// Octal digits, or with the top bit set a big-endian number; -1 where it is neither or too large.
int64_t number_of(const char* field, size_t size) {
  int64_t value = 0;
  if (static_cast<unsigned char>(field[0]) == 0x80) {
    for (size_t i = 1; i < size; ++i) {
      if (value >> 54 != 0) return -1;
      value = value << 8 | static_cast<unsigned char>(field[i]);
    }
    return value;
  }
  size_t i = 0;
  while (i < size && field[i] == ' ') ++i;
  if (i == size || field[i] < '0' || field[i] > '7') return -1;
  for (; i < size && field[i] >= '0' && field[i] <= '7'; ++i) value = value << 3 | (field[i] - '0');
  return value;
}

bool checksum_holds(const Header& header) {
  int64_t sum = 0;
  for (size_t i = 0; i < header.size(); ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  return number_of(header.data() + 148, 8) == sum;
}

// The path in a pax header, records of "LENGTH KEY=VALUE\n"; "" where there is none.
std::string pax_path(const std::string& records) {
  for (size_t begin = 0; begin < records.size();) {
    size_t length = 0;
    const auto [end, code] = std::from_chars(records.data() + begin, records.data() + records.size(), length);
    const auto digits = static_cast<size_t>(end - records.data()) - begin;
    if (code != std::errc() || length < digits + 2 || length > records.size() - begin) return "";
    const std::string record = records.substr(begin + digits + 1, length - digits - 2);
    if (record.starts_with("path=")) return record.substr(5);
    begin += length;
  }
  return "";
}

struct Member {
  std::string name;
  int64_t offset = 0, size = 0;  // of its bytes
  bool file = false;
};

// Walks the members of a tar file.
class TarReader {
 public:
  explicit TarReader(const PlacedFile& file) : file_(file) {}

  // False behind the last one. Error where the end mark, a block of zeros, is missing: a copy that broke off is a tar file up to there.
  bool next(Member& member) {
    std::string long_name;
    while (place_ + kTarBlock <= file_.size()) {
      Header header;
      file_.read(place_, header.data(), kTarBlock);
      if (std::all_of(header.begin(), header.end(), [](char byte) { return byte == 0; })) return false;
      ADATAPE_CHECK(checksum_holds(header), file_.name(), "expected a plain tar file, got other data at ", place_,
                    "; compressed ones must be unpacked first");
      member.size = number_of(header.data() + 124, 12);
      member.offset = place_ + kTarBlock;
      ADATAPE_CHECK(member.size >= 0 && member.size <= file_.size() - member.offset, file_.name(), "expected a whole tar file, got one of ",
                    file_.size(), " bytes cut off within the member at ", place_, "; copy or make it again");
      place_ = member.offset + (member.size + kTarBlock - 1) / kTarBlock * kTarBlock;
      const char kind = header[156];
      if (kind == 'L' || kind == 'x') {
        const std::string content = content_of(member);
        long_name = kind == 'L' ? text_of(content.data(), content.size()) : pax_path(content);
        continue;
      }
      if (kind == 'g' || kind == 'K') continue;  // pax defaults, the target of a long link
      member.file = kind == '0' || kind == '\0';
      member.name = long_name;
      if (long_name.empty()) {
        const std::string prefix = std::memcmp(header.data() + 257, "ustar\0", 6) == 0 ? text_of(header.data() + 345, 155) : "";
        member.name = (prefix.empty() ? "" : prefix + "/") + text_of(header.data(), 100);
      }
      return true;
    }
    throw Error(concat(file_.name(), ": expected a whole tar file, got one of ", file_.size(),
                       " bytes without the zeros that end one: cut off; copy or make it again",
                       place_ > 0 && place_ == file_.size() ? " (if it is known to be whole: truncate -s +1024 gives it an end)" : ""));
  }

  std::string content_of(const Member& member) const {
    ADATAPE_CHECK(member.size <= kLongestName, file_.name(), "expected at most ", kLongestName, " bytes of text at ", member.offset,
                  ", got ", member.size);
    std::string content(static_cast<size_t>(member.size), '\0');
    file_.read(member.offset, content.data(), member.size);
    return content;
  }

 private:
  const PlacedFile& file_;
  int64_t place_ = 0;
};

// task.unreadable_limit passes over pictures that do not decode; a sample without a class is a mistake of who made the shard.
constexpr const char* kMakeAgain = "make the shard again with it put right or left out (task.unreadable_limit is for broken pictures)";

// "a.tar" for a.tar.gz, a.tgz and other compressed tar files; "" for other files.
std::string unpacked_name(const std::string& name) {
  for (const char* ending : {".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".tgz"}) {
    if (name.ends_with(ending)) return name.substr(0, name.size() - std::strlen(ending)) + ".tar";
  }
  return "";
}

// Which split a shard's name speaks of by a word of its own: "train" of x-train-0.tar and training.tar, none of latest.tar. Error for two,
// and for a name that holds one within another word: neither silence nor a guess would keep training pictures out of the test.
std::string split_named(const std::string& file) {
  static const std::map<std::string, std::string> kWords = {{"train", "train"},          {"training", "train"}, {"val", "validation"},
                                                            {"valid", "validation"},     {"test", "test"},      {"testing", "test"},
                                                            {"validation", "validation"}};
  std::string named, word;
  bool several = false;
  for (const char letter : file + ".") {
    if (std::isalpha(static_cast<unsigned char>(letter)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
      continue;
    }
    const auto found = kWords.find(word);
    word.clear();
    if (found == kWords.end()) continue;
    several = several || (!named.empty() && named != found->second);
    named = found->second;
  }
  std::string lower = file;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char letter) { return std::tolower(letter); });
  const auto within = [&](const char* part) { return lower.find(part) != std::string::npos; };
  ADATAPE_CHECK(!several && (!named.empty() || !(within("train") || within("val") || within("test"))), "tar shards",
                "expected shards named for one split, with train, val or test as a word of its own, got ", printable(file),
                "; rename it or move it away");
  return named;
}

bool is_picture(const std::string& extension) { return extension == "jpg" || extension == "jpeg" || extension == "png"; }

}  // namespace

TarShards::TarShards(std::vector<std::string> paths) : paths_(std::move(paths)) {
  for (size_t shard = 0; shard < paths_.size(); ++shard) index_shard(static_cast<uint32_t>(shard));
}

void TarShards::index_shard(uint32_t shard) {
  const PlacedFile file(paths_[shard]);
  TarReader reader(file);
  std::map<std::string, size_t> place_of_key;  // members of a key stand together in practice, but nothing demands it
  const size_t first = samples_.size();
  std::string first_file;
  Member member;
  while (reader.next(member)) {
    const size_t folder = member.name.rfind('/') + 1;  // npos + 1 is 0
    const size_t dot = member.name.find('.', folder);
    if (!member.file) continue;
    if (first_file.empty()) first_file = member.name;
    if (dot == std::string::npos || dot == folder) continue;
    std::string extension = member.name.substr(dot + 1);
    std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return std::tolower(c); });
    if (!is_picture(extension) && extension != "cls") continue;
    const std::string key = member.name.substr(0, dot);
    const auto [place, fresh] = place_of_key.emplace(key, samples_.size());
    if (fresh) samples_.push_back({.key = key, .shard = shard});
    Sample& sample = samples_[place->second];
    if (is_picture(extension)) {
      ADATAPE_CHECK(sample.offset < 0, file.name(), "expected one picture of key ", printable(key), ", got two");
      sample.offset = member.offset;
      sample.size = member.size;
      continue;
    }
    const std::string text = reader.content_of(member);
    const size_t begin = std::min(text.find_first_not_of(" \t\r\n"), text.size());
    const auto [end, code] = std::from_chars(text.data() + begin, text.data() + text.size(), sample.label);
    const bool alone = std::all_of(end, text.data() + text.size(), [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; });
    ADATAPE_CHECK(code == std::errc() && alone && sample.label >= 0 && sample.label <= kLargestClass, file.name(),
                  "expected a class (a number, 0 or more) in ", printable(member.name), ", got \"", printable(text.substr(0, 40)), "\"; ",
                  kMakeAgain);
  }
  ADATAPE_CHECK(samples_.size() > first || first_file.empty(), file.name(),
                "expected members KEY.jpg (.jpeg, .png) and KEY.cls, where KEY ends at the first dot, found none; the first file is ",
                printable(first_file));
  for (size_t i = first; i < samples_.size(); ++i) {
    const Sample& sample = samples_[i];
    ADATAPE_CHECK(sample.offset >= 0 && sample.label >= 0, file.name(), "expected a picture and a class (.cls) of key ",
                  printable(sample.key), ", found no ", sample.offset < 0 ? "picture (.jpg, .jpeg or .png)" : "class", "; ", kMakeAgain);
  }
}

std::string TarShards::name(int64_t index) const {
  const Sample& one = sample(index);
  return printable(concat(paths_[one.shard], ": ", one.key));
}

std::string TarShards::read(int64_t index) const {
  const Sample& one = sample(index);
  const PlacedFile file(paths_[one.shard]);
  ADATAPE_CHECK(one.size <= kMaximumPictureBytes, name(index), "expected a picture of at most ", kMaximumPictureBytes, " bytes, got ",
                one.size);
  ADATAPE_CHECK(one.size <= file.size() - one.offset, file.name(), "expected the tar file that was indexed, got a shorter one");
  std::string bytes(static_cast<size_t>(one.size), '\0');
  file.read(one.offset, bytes.data(), one.size);
  return bytes;
}

std::vector<std::string> find_shards(const std::string& root, const std::string& split) {
  const auto folder = split_folder(root, split);
  std::vector<std::string> paths;
  std::error_code code, ignored;
  for (fs::directory_iterator each(folder.value_or(root), code), end; !code && each != end; each.increment(code)) {
    const std::string name = each->path().filename().string();
    const bool packed = each->path().extension() == ".tar" || !unpacked_name(name).empty();
    if (!packed || (!folder && split_named(name) != split)) continue;
    if (each->path().extension() == ".tar") paths.push_back(each->path().string());
    // Passing over these in silence would lose data; where they were unpacked beside, nothing is lost.
    const std::string unpacked = unpacked_name(name);
    ADATAPE_CHECK(unpacked.empty() || fs::exists(each->path().parent_path() / unpacked, ignored), "tar shards",
                  "expected plain tar files, got ", printable(each->path().string()), "; unpack it to ", printable(unpacked),
                  " or move it away");
  }
  ADATAPE_CHECK(!code, "tar shards", "expected a readable folder ", printable(folder.value_or(root)), ", got \"", code.message(), '"');
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace adatape
