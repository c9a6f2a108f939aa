// Tar files of pictures with their classes, as webdataset lays them out: KEY.jpg (or .jpeg, .png) beside KEY.cls, the class as a number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// The samples of several shards. Headers are read once, at construction; a picture is read when it is asked for. Thread-safe.
class TarShards {
 public:
  // Plain tar files (ustar, GNU or pax names). Other members than pictures and classes are passed over. Files are not trusted; Error names
  // the shard: not readable, not a tar file, cut off, files without one sample among them, a picture without a class or with one that is no
  // number in 0 .. 2^24.
  explicit TarShards(std::vector<std::string> paths);

  int64_t size() const { return static_cast<int64_t>(samples_.size()); }
  int64_t label(int64_t index) const { return sample(index).label; }
  // Index of the shard's path.
  uint32_t shard(int64_t index) const { return sample(index).shard; }
  // "SHARD: KEY".
  std::string name(int64_t index) const;
  // The key alone, without the shard.
  const std::string& key(int64_t index) const { return sample(index).key; }
  // The picture's bytes.
  std::string read(int64_t index) const;

 private:
  struct Sample {
    std::string key;
    int64_t offset = -1, size = 0;  // of the picture; -1: none seen yet
    int32_t label = -1;
    uint32_t shard = 0;
  };
  const Sample& sample(int64_t index) const { return samples_[static_cast<size_t>(index)]; }
  void index_shard(uint32_t shard);

  std::vector<std::string> paths_;
  std::vector<Sample> samples_;
};

// The shards of a split ("train", "validation", "test"), sorted: *.tar in root/SPLIT (for validation also root/val), or else those of root
// whose names hold the split as a word of its own (train, training; val, valid, validation; test, testing: x-train-000.tar). Empty when
// there are none. Error: a compressed one that is not unpacked beside; in root a name of two splits (train-val.tar), or of one within
// another word (trainval.tar, latest.tar).
std::vector<std::string> find_shards(const std::string& root, const std::string& split);

}  // namespace adatape
