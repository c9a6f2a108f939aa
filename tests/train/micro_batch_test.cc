#include "adatape/train/micro_batch.h"

#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

TEST(MicroBatch, CutsSequences) {
  Batch batch;
  batch.symbols = torch::arange(6);
  batch.places = torch::arange(12).view({6, 2});
  batch.offsets = {0, 2, 2, 5, 6};
  batch.labels = torch::tensor({0, 1, 0, 1});
  batch.examples = torch::tensor({10, 11, 12, 13});
  const Batch part = micro_batch(batch, 1, 2);
  EXPECT_EQ(part.size(), 2);
  EXPECT_EQ(part.offsets, (std::vector<int64_t>{0, 0, 3}));
  EXPECT_TRUE(part.symbols.equal(torch::tensor({2, 3, 4})));
  EXPECT_TRUE(part.places.equal(torch::arange(4, 10).view({3, 2})));
  EXPECT_TRUE(part.labels.equal(torch::tensor({1, 0})));
  EXPECT_TRUE(part.examples.equal(torch::tensor({11, 12})));
}

TEST(MicroBatch, CutsVectorsAndAnswersOfElements) {
  Batch batch;
  batch.vectors = torch::arange(12).view({6, 2});
  batch.offsets = {0, 2, 2, 5, 6};
  batch.labels = torch::arange(6);
  batch.examples = torch::arange(4);
  const Batch part = micro_batch(batch, 1, 2, /*answers_each=*/true);
  EXPECT_EQ(part.offsets, (std::vector<int64_t>{0, 0, 3}));
  EXPECT_TRUE(part.vectors.equal(batch.vectors.slice(0, 2, 5)));
  EXPECT_TRUE(part.labels.equal(torch::tensor({2, 3, 4})));
  EXPECT_TRUE(part.examples.equal(torch::tensor({1, 2})));
}

TEST(MicroBatch, CutsImages) {
  Batch batch;
  batch.images = torch::rand({3, 1, 2, 2});
  batch.examples = torch::arange(3);
  const Batch part = micro_batch(batch, 2, 1);
  EXPECT_EQ(part.size(), 1);
  EXPECT_TRUE(part.images.equal(batch.images.slice(0, 2)));
  EXPECT_FALSE(part.labels.defined());
}

TEST(MicroBatch, RefusesWhatIsNotThere) {
  Batch batch;
  batch.images = torch::rand({3, 1, 2, 2});
  EXPECT_EQ(error_of([&] { micro_batch(batch, 2, 2); }), "micro-batch: expected examples within 0 .. 2, got 2 .. 3");
}

}  // namespace
}  // namespace adatape
