#include "adatape/train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}

// TFRecord stores checksums rotated and offset, so that a checksum of data that holds checksums stays useful.
uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class Number>
std::string little_endian(Number number) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof(number), '\0');
  std::memcpy(bytes.data(), &number, sizeof(number));
  return bytes;
}

// Protocol buffers wire format: a key (field number and wire type), then the value.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string key(uint32_t field, uint32_t wire_type) { return varint(field << 3 | wire_type); }
std::string integer_field(uint32_t field, int64_t value) { return key(field, 0) + varint(static_cast<uint64_t>(value)); }
std::string double_field(uint32_t field, double value) { return key(field, 1) + little_endian(value); }
std::string bytes_field(uint32_t field, std::string_view bytes) { return key(field, 2) + varint(bytes.size()).append(bytes); }
std::string float_field(uint32_t field, float value) { return key(field, 5) + little_endian(value); }

// The first two fields of an Event: wall_time = 1, step = 2.
std::string event_at(int64_t step) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return double_field(1, now) + integer_field(2, step);
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

EventWriter::EventWriter(const std::string& folder) {
  std::array<char, 32> time{};
  std::snprintf(time.data(), time.size(), "%010lld", static_cast<long long>(std::time(nullptr)));
  const std::string path = folder + "/events.out.tfevents." + time.data() + "." + host_name();
  // A run that is resumed within the second gets ".1": TensorBoard reads files in the order of their names.
  std::string free_path = path;
  for (int i = 1; std::filesystem::exists(free_path); ++i) free_path = concat(path, ".", i);
  file_ = std::make_unique<AppendFile>(free_path);
  write(event_at(0) + bytes_field(3, "brain.Event:2"));  // file_version = 3
}

void EventWriter::scalar(const std::string& tag, int64_t step, double value) {
  const std::string summary_value =
      bytes_field(1, tag) + float_field(2, static_cast<float>(value));    // Summary.Value: tag = 1, simple_value = 2
  write(event_at(step) + bytes_field(5, bytes_field(1, summary_value)));  // Event.summary = 5, Summary.value = 1
}

void EventWriter::resumed_from(int64_t step) {
  write(event_at(step + 1) + bytes_field(7, integer_field(1, 1)));  // Event.session_log = 7, SessionLog.status = 1: START = 1
}

void EventWriter::write(const std::string& event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  file_->append(length + little_endian(masked_crc32c(length)) + event + little_endian(masked_crc32c(event)));
}

}  // namespace adatape
