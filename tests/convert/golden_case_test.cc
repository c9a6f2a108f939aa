#include "adatape/convert/golden_case.h"

#include <algorithm>
#include <fstream>

#include "golden_folder.h"
#include "tests/cuda.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::CaseCopy;
using testing::golden;
using ::testing::HasSubstr;

std::vector<std::string> all_cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(ADATAPE_SOURCE_DIR "/tests/golden")) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

const TensorComparison& comparison_of(const CaseResult& result, const std::string& name) {
  const auto found =
      std::find_if(result.comparisons.begin(), result.comparisons.end(), [&](const TensorComparison& c) { return c.name == name; });
  if (found == result.comparisons.end()) throw std::runtime_error("no comparison of " + name);
  return *found;
}

class GoldenCase : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenCase, EveryExpectedTensorIsWithinItsTolerance) {
  const CaseResult result = run_golden_case(golden(GetParam()));
  EXPECT_TRUE(result.compared);
  size_t wanted = 0;
  for (const auto& [name, tensor] : read_safetensors(golden(GetParam()) + "/expected.safetensors").tensors)
    wanted += name.rfind("published/", 0) != 0;
  EXPECT_GT(wanted, 1u);
  EXPECT_EQ(result.comparisons.size(), wanted);
  for (const TensorComparison& comparison : result.comparisons) {
    EXPECT_TRUE(comparison.passed) << comparison.name << ": error " << comparison.largest_error << " of " << comparison.tolerance << " "
                                   << comparison.note;
  }
}

// The GPU's sums run in other orders; what is whole is equal still.
class GoldenCaseOnCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { need_cuda(); }
};

TEST_P(GoldenCaseOnCuda, EveryExpectedTensorIsWithinThreeTolerances) {
  const CaseResult result = run_golden_case(golden(GetParam()), parse_device("cuda"));
  EXPECT_GT(result.comparisons.size(), 1u);
  for (const TensorComparison& comparison : result.comparisons) {
    const bool close = comparison.produced && comparison.note.empty() && comparison.largest_error <= 3 * comparison.tolerance;
    EXPECT_TRUE(close) << comparison.name << ": error " << comparison.largest_error << " of " << comparison.tolerance << " "
                       << comparison.note;
    EXPECT_TRUE(result.tensors.at(comparison.name).is_cpu()) << comparison.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenCaseOnCuda, ::testing::ValuesIn(where_cuda_is(all_cases())),
                         [](const auto& which) { return which.param; });

INSTANTIATE_TEST_SUITE_P(All, GoldenCase, ::testing::ValuesIn(all_cases()), [](const auto& which) { return which.param; });

TEST(GoldenCaseTest, SeventeenModelsAndTheReader) { EXPECT_GE(all_cases().size(), 18u); }

TEST(GoldenCaseTest, TolerancesAreThoseOfTheCase) {
  const CaseResult result = run_golden_case(golden("adatape_input_bank_gap"));
  const auto expected = read_safetensors(golden("adatape_input_bank_gap") + "/expected.safetensors").tensors;
  const auto scale = [&](const std::string& name) { return std::max(1.0, expected.at(name).abs().max().item<double>()); };
  EXPECT_DOUBLE_EQ(comparison_of(result, "logits").tolerance, 1e-5 * scale("logits"));
  EXPECT_DOUBLE_EQ(comparison_of(result, "tape_tokens").tolerance, 3e-5 * scale("tape_tokens"));
  EXPECT_DOUBLE_EQ(comparison_of(result, "grad/embedding/kernel").tolerance, 1e-4 * scale("grad/embedding/kernel"));
  EXPECT_EQ(comparison_of(result, "tape_length").tolerance, 0);
}

TEST(GoldenCaseTest, PerturbedExpectationsFail) {
  const CaseCopy copy("adatape_input_bank_gap");
  copy.change("expected.safetensors", [](NamedTensors& tensors) {
    tensors["logits"].view({-1})[3] += 1e-3;
    tensors["tape_length"].view({-1})[0] += 1;
    tensors["ponder_loss"].view({-1})[0] = std::numeric_limits<float>::quiet_NaN();
    tensors["tape_weights"] = tensors["tape_weights"].flatten();
    tensors["unheard_of"] = at::zeros({2});
    tensors["published/logits"] = at::zeros({7});
  });
  const CaseResult result = run_golden_case(copy.folder());
  EXPECT_FALSE(result.passed());
  EXPECT_FALSE(comparison_of(result, "logits").passed);
  EXPECT_NEAR(comparison_of(result, "logits").largest_error, 1e-3, 1e-4);
  EXPECT_FALSE(comparison_of(result, "tape_length").passed);
  EXPECT_EQ(comparison_of(result, "tape_length").largest_error, 1);
  EXPECT_FALSE(comparison_of(result, "ponder_loss").passed);
  EXPECT_THAT(comparison_of(result, "tape_weights").note, HasSubstr("expected shape"));
  EXPECT_FALSE(comparison_of(result, "unheard_of").produced);
  EXPECT_EQ(comparison_of(result, "unheard_of").note, "not produced");
  EXPECT_EQ(std::count_if(result.comparisons.begin(), result.comparisons.end(), [](const TensorComparison& c) { return !c.passed; }), 5);
}

TEST(GoldenCaseTest, IntegersAreNotWhatFloatsAreCutTo) {
  const CaseCopy copy("adatape_input_bank_gap");
  copy.change("expected.safetensors", [](NamedTensors& tensors) {
    tensors["tape_tokens"] = tensors["tape_tokens"].to(at::kInt);  // what the program gives, cut
    tensors["tape_length"] = tensors["tape_length"].to(at::kFloat);
  });
  const CaseResult result = run_golden_case(copy.folder());
  EXPECT_FALSE(comparison_of(result, "tape_tokens").passed);
  EXPECT_TRUE(comparison_of(result, "tape_length").passed);
}

TEST(GoldenCaseTest, InfinityIsWithinNoTolerance) {
  const CaseCopy copy("adatape_input_bank_gap");
  copy.change("expected.safetensors",
              [](NamedTensors& tensors) { tensors["logits"].view({-1})[3] = std::numeric_limits<float>::infinity(); });
  EXPECT_FALSE(comparison_of(run_golden_case(copy.folder()), "logits").passed);
}

TEST(GoldenCaseTest, NothingComparedIsNoSuccess) {
  const CaseCopy copy("vit_timm");
  copy.change("expected.safetensors", [](NamedTensors& tensors) {
    tensors.clear();
    tensors["published/logits"] = at::zeros({7});
  });
  const CaseResult result = run_golden_case(copy.folder());
  EXPECT_TRUE(result.compared);
  EXPECT_TRUE(result.comparisons.empty());
  EXPECT_FALSE(result.passed());
}

TEST(GoldenCaseTest, PerturbedWeightsFail) {
  const CaseCopy copy("universal_transformer_per_example");
  copy.change("weights.safetensors", [](NamedTensors& tensors) { tensors["output_projection/kernel"].view({-1})[0] += 0.01; });
  EXPECT_FALSE(run_golden_case(copy.folder()).passed());
}

TEST(GoldenCaseTest, NotComparedWithoutExpectations) {
  const CaseCopy copy("vit_timm");
  fs::remove(copy / "expected.safetensors");
  const CaseResult result = run_golden_case(copy.folder());
  EXPECT_FALSE(result.compared);
  EXPECT_TRUE(result.comparisons.empty());
  const NamedTensors whole = run_golden_case(golden("vit_timm")).tensors;
  ASSERT_EQ(result.tensors.size(), whole.size());
  for (const auto& [name, tensor] : whole) EXPECT_TRUE(at::equal(result.tensors.at(name), tensor)) << name;
}

TEST(GoldenCaseTest, BadCasesAreNamed) {
  EXPECT_THAT(error_of([] { run_golden_case("/nowhere"); }), HasSubstr("/nowhere: expected a case folder"));
  EXPECT_THAT(error_of([] { run_golden_case(golden("vit_timm/case.json")); }), HasSubstr("found a file"));
  const CaseCopy copy("vit_timm");
  const auto rewrite = [&](const std::string& text) { std::ofstream(copy / "case.json") << text; };
  const auto error = [&] { return error_of([&] { run_golden_case(copy.folder()); }); };
  for (const char* text : {"{", "[]", "{\"model\": 3, \"config\": {}}", "{\"model\": \"vit\"}", ""}) {
    rewrite(text);
    EXPECT_THAT(error(), HasSubstr("case.json")) << text;
  }
  rewrite(R"({"model": "moe_vit", "config": {}})");
  EXPECT_THAT(error(), AllOf(HasSubstr("moe_vit"), HasSubstr("known: adatape")));
  rewrite(R"({"model": "vit", "config": {"D": 32, "heads": 4}})");
  EXPECT_THAT(error(), AllOf(HasSubstr("case.json"), HasSubstr("ffn_width")));
  rewrite(R"({"model": "vit", "config": {"D": "wide", "heads": 4}})");
  EXPECT_THAT(error(), HasSubstr("case.json"));
  fs::remove(copy / "inputs.safetensors");
  EXPECT_THAT(error(), HasSubstr("inputs.safetensors"));
}

TEST(GoldenCaseTest, MissingWeightsAreNamed) {
  const CaseCopy copy("adatape_two_ffn");
  copy.change("weights.safetensors", [](NamedTensors& tensors) { tensors.erase("output_projection/bias"); });
  EXPECT_THAT(error_of([&] { run_golden_case(copy.folder()); }), HasSubstr("no tensor in the weights gives head.classifier.bias [6]"));
}

}  // namespace
}  // namespace adatape
