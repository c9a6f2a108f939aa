#include "adatape/tasks/language_modelling/language_modelling_task.h"

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "adatape/core/check.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int64_t kContext = 50;

// 60 blocks of 2048 bytes; every byte says which block it is in.
class LanguageModellingTest : public ::testing::Test {
 protected:
  LanguageModellingTest() {
    std::string name = (fs::temp_directory_path() / "adatape_text_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    folder_ = name;
    for (int block = 0; block < 60; ++block) text_ += std::string(2048, static_cast<char>('0' + block));
    fs::create_directories(folder_ / "b");
    write("a", text_.substr(0, 5000));
    write("b/rest", text_.substr(5000));
    write("a.dat", std::string("\0index", 6));
    fs::create_symlink(folder_ / "a", folder_ / "c");
  }
  ~LanguageModellingTest() override { fs::remove_all(folder_); }
  void write(const std::string& name, const std::string& content) const { std::ofstream(folder_ / name, std::ios::binary) << content; }
  LanguageModellingConfig config() const {
    LanguageModellingConfig made;
    made.path = folder_.string();
    made.context = kContext;
    return made;
  }
  fs::path folder_;
  std::string text_;
};

std::vector<int64_t> values(const at::Tensor& tensor) { return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()}; }

TEST_F(LanguageModellingTest, SplitsDoNotMeet) {
  const LanguageModellingTask task(config());
  std::set<int64_t> training;
  for (uint64_t step = 0; step < 40; ++step) {
    const Batch batch = task.training_batch(1, step, 64);
    for (const int64_t byte : values(batch.symbols)) training.insert(byte - '0');
    for (const int64_t byte : values(batch.labels)) training.insert(byte - '0');
  }
  for (int64_t block = 0; block < 60; ++block) EXPECT_EQ(training.count(block), block % 20 == 9 || block % 20 == 19 ? 0u : 1u) << block;
  for (const Split split : {Split::kValidation, Split::kTest}) {
    EXPECT_EQ(task.held_out_size(split), 3 * (2048 / (kContext + 1)));
    const Batch all = task.held_out_batch(split, 0, task.held_out_size(split));
    for (const int64_t byte : values(all.symbols)) EXPECT_EQ((byte - '0') % 20, split == Split::kTest ? 19 : 9);
  }
}

TEST_F(LanguageModellingTest, AnswersAreTheNextBytes) {
  std::string text;
  for (int64_t i = 0; i < 60000; ++i) text += static_cast<char>(i * i % 251);
  write("a", text);
  fs::remove_all(folder_ / "b");
  fs::remove(folder_ / "a.dat");
  fs::remove(folder_ / "c");
  for (char& byte : text) byte = byte == 0 ? 1 : byte;  // a NUL would make it no text
  write("a", text);
  const LanguageModellingTask task(config());
  const Batch batch = task.training_batch(3, 5, 7);
  EXPECT_EQ(batch.size(), 7);
  EXPECT_EQ(batch.offsets.back(), 7 * kContext);
  const auto symbols = values(batch.symbols), labels = values(batch.labels);
  for (int64_t b = 0; b < 7; ++b) {
    std::string window(1, static_cast<char>(symbols[static_cast<size_t>(b * kContext)]));
    for (int64_t i = 0; i < kContext; ++i) window += static_cast<char>(labels[static_cast<size_t>(b * kContext + i)]);
    EXPECT_NE(text.find(window), std::string::npos);
    for (int64_t i = 1; i < kContext; ++i)
      EXPECT_EQ(symbols[static_cast<size_t>(b * kContext + i)], labels[static_cast<size_t>(b * kContext + i - 1)]);
  }
  // A function of (seed, step, example) alone.
  const Batch again = task.training_batch(3, 5, 4);
  EXPECT_TRUE(again.symbols.equal(batch.symbols.narrow(0, 0, 4 * kContext)));
  EXPECT_FALSE(task.training_batch(3, 6, 7).symbols.equal(batch.symbols));
}

TEST_F(LanguageModellingTest, LossIsNatsAByte) {
  const LanguageModellingTask task(config());
  const Batch batch = task.held_out_batch(Split::kTest, 0, 3);
  const at::Tensor loss = task.example_loss(at::zeros({3 * kContext, 256}), batch);
  EXPECT_NEAR(loss[1].item<double>(), std::log(256.0), 1e-5);
  const auto described = task.describe_loss(std::log(256.0), Split::kTest);
  ASSERT_EQ(described.size(), 2u);
  EXPECT_NEAR(described[0].second, 8, 1e-9);
  EXPECT_EQ(described[1].first, "bits per byte of an order-3 n-gram");
  EXPECT_GT(described[1].second, 0);
}

TEST_F(LanguageModellingTest, AnEncoderReadsThePrefix) {
  LanguageModellingConfig made = config();
  const LanguageModellingTask whole(made);
  made.prefix = 20;
  const LanguageModellingTask task(made);
  EXPECT_EQ(task.input_spec().length, 20);
  EXPECT_EQ(task.input_spec().decoder_length, kContext + 1 - 20);
  const Batch one = whole.training_batch(1, 3, 5), two = task.training_batch(1, 3, 5);
  for (int64_t b = 0; b < 5; ++b) {
    const int64_t answers = kContext + 1 - 20;
    EXPECT_TRUE(two.symbols.narrow(0, 20 * b, 20).equal(one.symbols.narrow(0, kContext * b, 20)));
    EXPECT_TRUE(two.labels.narrow(0, answers * b, answers).equal(one.labels.narrow(0, kContext * b + 19, answers)));
    EXPECT_EQ(two.decoder_symbols[answers * b].item<int64_t>(), 0);
    EXPECT_TRUE(two.decoder_symbols.narrow(0, answers * b + 1, answers - 1).equal(two.labels.narrow(0, answers * b, answers - 1)));
  }
  EXPECT_EQ(task.example_loss(at::zeros({5 * (kContext + 1 - 20), 256}), two).sizes(), (at::IntArrayRef{5}));
}

TEST_F(LanguageModellingTest, TextToSymbolsAndBack) {
  LanguageModellingConfig made = config();
  const std::string text = "\xc3\xa4 b\n";
  EXPECT_EQ(made.read_text(text), (std::vector<int64_t>{0xc3, 0xa4, ' ', 'b', '\n'}));
  EXPECT_EQ(made.write_text(made.read_text(text)), text);
  // Ids of another tokeniser are no bytes.
  made.vocabulary = 50257;
  EXPECT_THAT(error_of([&] { made.read_text(text); }), HasSubstr("expected task.vocabulary = 256 to read bytes, got 50257; the ids of"));
  EXPECT_THAT(error_of([&] { made.write_text({15496}); }), HasSubstr("expected task.vocabulary = 256"));
}

TEST_F(LanguageModellingTest, WhatIsMissingIsSaid) {
  const auto refusal = [](const LanguageModellingConfig& bad) -> std::string {
    try {
      LanguageModellingTask task(bad);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  LanguageModellingConfig bad = config();
  bad.path = (folder_ / "none").string();
  EXPECT_THAT(refusal(bad), HasSubstr("expected a text file or a folder of them, found nothing there; set task.path"));
  bad.path = (folder_ / "a").string();
  EXPECT_THAT(refusal(bad), HasSubstr("expected at least 40960 bytes of text"));
  bad = config();
  bad.vocabulary = 50257;
  EXPECT_THAT(refusal(bad), HasSubstr("expected task.vocabulary = 256 to read bytes, got 50257"));
  bad = config();
  fs::create_directories(folder_ / "empty");
  bad.path = (folder_ / "empty").string();
  EXPECT_THAT(refusal(bad), HasSubstr("expected text, found 0 files"));
}

}  // namespace
}  // namespace adatape
