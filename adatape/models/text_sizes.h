// The sizes in which the text models were published.
#pragma once

#include <string>
#include <vector>

namespace adatape {

struct TextConfig;

struct TextSize {
  std::string family, name;  // "gpt", "gpt3_175b"
  std::string parameters;    // as published: "175B"
  int64_t width, blocks, heads, key_value_heads, head_width, ffn_width;
};

// arXiv 2005.14165 table 2.1 and GPT-2's; arXiv 2204.02311 table 1; arXiv 1910.10683 and the 1.1 checkpoints that followed it.
const std::vector<TextSize>& text_sizes();
// The names of a family's sizes, "custom" first.
std::vector<std::string> text_size_names(const std::string& family);
// "name (parameters), ..." of a family; "" where it has none.
std::string describe_text_sizes(const std::string& family);
// Puts a size's numbers (and what sets T5 1.1 apart from 1.0, GPT-2's epsilon) into a configuration of its family.
void apply_text_size(const std::string& name, TextConfig& config);

}  // namespace adatape
