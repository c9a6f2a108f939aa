#include "adatape/train/tensorboard.h"

#include <cstring>

#include "test_run.h"

namespace adatape {
namespace {

template <class Number>
Number number_at(const std::string& bytes, size_t offset) {
  Number number;
  std::memcpy(&number, bytes.data() + offset, sizeof(number));
  return number;
}

uint32_t masked(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  for (size_t offset = 0; offset < file.size();) {
    const auto length = number_at<uint64_t>(file, offset);
    EXPECT_EQ(number_at<uint32_t>(file, offset + 8), masked(file.substr(offset, 8)));
    records.push_back(file.substr(offset + 12, length));
    EXPECT_EQ(number_at<uint32_t>(file, offset + 12 + length), masked(records.back()));
    offset += 16 + length;
  }
  return records;
}

TEST(Tensorboard, Crc32cOfKnownText) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);  // the check value of CRC-32C
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
}

TEST(Tensorboard, WritesVersionThenScalars) {
  const TemporaryFolder folder;
  EventWriter writer(folder.path());
  writer.scalar("train/loss", 300, 0.25);
  writer.resumed_from(41);
  writer.flush();
  const std::vector<std::string> records = records_of(read_file(writer.path()));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_THAT(records[0], ::testing::HasSubstr("\x1a\x0d"
                                               "brain.Event:2"));  // field 3, 13 bytes
  EXPECT_EQ(records[1][0], '\x09');                                // field 1 (wall time), 64 bits
  EXPECT_GT(number_at<double>(records[1], 1), 1.7e9);
  // step = 300 (varint AC 02); summary (19 bytes) { value (17 bytes) { tag "train/loss"; simple_value 0.25 } }
  EXPECT_EQ(records[1].substr(9), std::string("\x10\xac\x02\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x80\x3e", 24));
  EXPECT_EQ(records[2].substr(9), std::string("\x10\x2a\x3a\x02\x08\x01", 6));  // step 42, session_log { status: START }
}

TEST(Tensorboard, EachWriterHasAFileOfItsOwn) {
  const TemporaryFolder folder;
  const EventWriter one(folder.path()), two(folder.path());
  EXPECT_NE(one.path(), two.path());
  EXPECT_LT(one.path(), two.path());
  EXPECT_THAT(one.path(), ::testing::HasSubstr("/events.out.tfevents."));
}

}  // namespace
}  // namespace adatape
