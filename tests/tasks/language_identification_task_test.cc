#include "adatape/tasks/language_identification/language_identification_task.h"

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "task_cases.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::numbers;
using testing::refusal_of;
using ::testing::StartsWith;

constexpr int kBlocks = 40;

// Three languages: "de" has two files, "en" is a file, "la" is three times as long. Every byte says its block, modulo 40, and its language:
// "de" counts from 0x40 on, "en" from 0x80, "la" from 0xc0.
class LanguageIdentification : public ::testing::Test {
 protected:
  LanguageIdentification() {
    std::string name = (fs::temp_directory_path() / "adatape_languages_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    folder_ = name;
    const std::string german = blocks(0x40, kBlocks);
    write("de/one", german.substr(0, 5000));
    write("de/two/three", german.substr(5000));
    write("de/off/secret", std::string(4000, '!'));
    write("de/one.dat", std::string("\0index", 6));
    write("en.txt", blocks(0x80, kBlocks));
    write("la/all", blocks(0xc0, 3 * kBlocks));
    write("off/secret", std::string(100'000, '!'));
    write(".hidden", std::string(100'000, '!'));
    fs::create_symlink(folder_ / "de", folder_ / "fr");
  }
  ~LanguageIdentification() override { fs::remove_all(folder_); }
  static std::string blocks(int first, int count) {
    std::string text;
    for (int block = 0; block < count; ++block) text += std::string(2048, static_cast<char>(first + block % kBlocks));
    return text;
  }
  void write(const std::string& name, const std::string& content) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  LanguageIdentificationConfig config() const {
    LanguageIdentificationConfig made;
    made.path = folder_.string();
    return made;
  }
  static LanguageIdentificationTask task_of(LanguageIdentificationConfig made) {
    made.resolve();
    return LanguageIdentificationTask(made);
  }
  fs::path folder_;
};

TEST_F(LanguageIdentification, LanguagesAreFoldersAndFiles) {
  LanguageIdentificationConfig made = config();
  made.resolve();
  EXPECT_EQ(made.languages, "de,en,la");
  EXPECT_EQ(made.loose_files, "each");
  EXPECT_EQ(made.length_minimum, 32);
  EXPECT_EQ(made.input_spec().classes, 3);
  EXPECT_THAT(LanguageIdentificationTask(made).notes(), ::testing::ElementsAre("bytes of text: de 81920, en 81920, la 245760"));
  // What is beside the folders as one language.
  write("more.txt", blocks(0x80, 1));
  made = config();
  made.loose_files = "english";
  made.resolve();
  EXPECT_EQ(made.languages, "de,english,la");
  EXPECT_THAT(LanguageIdentificationTask(made).notes(), ::testing::ElementsAre(StartsWith("bytes of text: de 81920, english 183968, la")));
  // A choice of them, in its own order.
  made = config();
  made.languages = "la,de";
  EXPECT_EQ(task_of(made).class_names(), (std::vector<std::string>{"la", "de"}));
}

TEST_F(LanguageIdentification, SplitsDoNotMeetAndLabelsAreTheLanguage) {
  const LanguageIdentificationTask task = task_of(config());
  std::set<int64_t> training;
  std::vector<int64_t> drawn(3, 0);
  for (uint64_t step = 0; step < 60; ++step) {
    const Batch batch = task.training_batch(1, step, 64);
    for (int64_t b = 0; b < 64; ++b) {
      const int64_t label = batch.labels[b].item<int64_t>();
      ++drawn[static_cast<size_t>(label)];
      for (int64_t i = 32 * b; i < 32 * (b + 1); ++i) {
        const int64_t byte = batch.symbols.const_data_ptr<int64_t>()[i];
        ASSERT_EQ(byte / 0x40 - 1, label);
        training.insert(byte);
      }
    }
  }
  for (const int64_t count : drawn) EXPECT_NEAR(static_cast<double>(count), 60 * 64 / 3.0, 120);  // each language equally likely
  for (int64_t language = 1; language <= 3; ++language) {
    for (int64_t block = 0; block < kBlocks; ++block) {
      EXPECT_EQ(training.count(0x40 * language + block), block % 20 == 9 || block % 20 == 19 ? 0u : 1u) << language << ' ' << block;
    }
  }
  for (const Split split : {Split::kValidation, Split::kTest}) {
    EXPECT_EQ(task.held_out_size(split), 3 * 2 * (2048 / 32));
    const Batch all = task.held_out_batch(split, 0, task.held_out_size(split));
    for (int64_t b = 0; b < all.size(); ++b) {
      EXPECT_EQ(all.labels[b].item<int64_t>(), b % 3);
      const int64_t byte = all.symbols[32 * b].item<int64_t>();
      EXPECT_EQ(byte / 0x40 - 1, b % 3);
      EXPECT_EQ(byte % 0x40 % 20, split == Split::kTest ? 19 : 9);
    }
    // The windows of the longer text are spread over all of it: the last one is in its last block.
    EXPECT_EQ(all.symbols[32 * (all.size() - 1)].item<int64_t>(), 0xc0 + (split == Split::kTest ? 39 : 29));
  }
  EXPECT_EQ(task.covariate_name(), "class");
}

TEST_F(LanguageIdentification, BatchesAreFunctionsOfSeedStepAndExample) {
  LanguageIdentificationConfig made = config();
  made.length_minimum = 4;
  const LanguageIdentificationTask task = task_of(made);
  const Batch batch = task.training_batch(1, 5, 8), larger = task.training_batch(1, 5, 16);
  EXPECT_TRUE(batch.symbols.equal(larger.symbols.slice(0, 0, batch.offsets.back())));
  EXPECT_TRUE(batch.labels.equal(larger.labels.slice(0, 0, 8)));
  EXPECT_FALSE(task.training_batch(1, 6, 8).labels.equal(batch.labels) && task.training_batch(2, 5, 8).labels.equal(batch.labels));
  const Batch some = task.held_out_batch(Split::kTest, 0, 10), later = task.held_out_batch(Split::kTest, 4, 6);
  EXPECT_TRUE(later.symbols.equal(some.symbols.slice(0, some.offsets[4])));
  EXPECT_EQ(later.examples[0].item<int64_t>(), 4);
  // Lengths are what the covariate says, and all of them occur.
  const Batch many = task.training_batch(1, 0, 600);
  const std::vector<double> lengths = numbers(task.example_covariate(many));
  std::set<double> seen(lengths.begin(), lengths.end());
  EXPECT_EQ(seen.size(), 29u);
  EXPECT_EQ(*seen.begin(), 4);
  EXPECT_EQ(*seen.rbegin(), 32);
  EXPECT_EQ(many.offsets.back(), many.symbols.size(0));
  EXPECT_EQ(task.covariate_name(), "length");
  const at::Tensor logits = at::zeros({8, 3});
  EXPECT_NEAR(task.example_loss(logits, batch)[0].item<double>(), std::log(3.0), 1e-6);
}

// Texts of letters that do not meet: n-grams are always right. Two languages of the same text: the first of them is always the answer.
TEST_F(LanguageIdentification, NGramsAreTheRival) {
  const auto repeated = [](const std::string& letters) {
    std::string text;
    while (text.size() < kBlocks * 2048) text += letters;
    return text;
  };
  fs::remove(folder_ / "de/two/three");
  write("de/one", repeated("abc"));
  write("en.txt", repeated("def"));
  write("la/all", repeated("ghi"));
  const auto described = task_of(config()).describe_loss(0, Split::kTest);
  ASSERT_EQ(described.size(), 1u);
  EXPECT_EQ(described[0].first, "accuracy of order-2 n-grams");
  EXPECT_EQ(described[0].second, 1);
  write("la/all", repeated("def"));
  EXPECT_NEAR(task_of(config()).describe_loss(0, Split::kValidation)[0].second, 2.0 / 3, 1e-9);
}

TEST_F(LanguageIdentification, WhatIsMissingIsSaid) {
  LanguageIdentificationConfig bad = config();
  bad.path = (folder_ / "none").string();
  EXPECT_EQ(refusal_of([&] { task_of(bad); }),
            bad.path + ": expected a folder with a sub-folder or a file for each language, found nothing there; set task.path");
  bad.path = (folder_ / "en.txt").string();
  EXPECT_THAT(refusal_of([&] { task_of(bad); }), HasSubstr("found a file; set task.path"));
  bad.path = (folder_ / "la").string();
  EXPECT_EQ(refusal_of([&] { task_of(bad); }),
            "task language_identification: expected at least 2 languages in " + bad.path + ", a sub-folder or a file each, found 1 (all)");
  bad = config();
  bad.languages = "de,nl";
  EXPECT_EQ(refusal_of([&] { task_of(bad); }),
            "task language_identification: expected languages out of de, en, la in " + bad.path + ", got \"nl\"");
  bad.languages = "de";
  EXPECT_EQ(refusal_of([&] { task_of(bad); }), "task language_identification: expected at least 2 task.languages, got \"de\"");
  bad = config();
  bad.length_minimum = 33;
  EXPECT_EQ(refusal_of([&] { task_of(bad); }), "task language_identification: expected length_minimum <= length, got 33 and 32");
  fs::create_directories(folder_ / "nl");
  EXPECT_THAT(refusal_of([&] { task_of(config()); }), HasSubstr("/nl: expected text, found 0 files without any; set task.path"));
  write("nl/short", "Er was eens");
  EXPECT_EQ(refusal_of([&] { task_of(config()); }),
            "task language_identification: expected at least 40960 bytes of text in " + (folder_ / "nl").string() + " (\"nl\"), got 11");
  fs::remove_all(folder_ / "nl");
  write("gro\xdf", blocks(0x40, kBlocks));
  EXPECT_THAT(refusal_of([&] { task_of(config()); }), HasSubstr(": expected languages with names in UTF-8, got \"gro?\"; rename it"));
  fs::remove(folder_ / "gro\xdf");
  write("de.txt", "again");
  EXPECT_THAT(refusal_of([&] { task_of(config()); }), HasSubstr("expected different names of languages, got \"de\" twice; rename one"));
}

}  // namespace
}  // namespace adatape
