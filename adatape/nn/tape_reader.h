// One reader: adaptive tape reading before a block. Source: arXiv 2301.13195, section 3.2; the arithmetic is ops/tape_read/tape_read.h.
#pragma once

#include "adatape/nn/feed_forward.h"
#include "adatape/nn/tape_bank.h"

namespace adatape {

// One reading of one reader (contract of the fields: ops/tape_read/tape_read.h).
struct TapeReading {
  int64_t reader = 0;  // index in model.readers
  int64_t before_block = 0;
  torch::Tensor tokens;   // [B, T, D] before the tape MLP
  torch::Tensor weights;  // [B, T, K]
  torch::Tensor indices;  // int64 [B, T, K], row within the example's bank, -1 = not read
  torch::Tensor lengths;  // int64 [B]
  torch::Tensor ponder;   // [B]
  torch::Tensor halting;  // [B, T]
  torch::Tensor
      query_log_density;  // [B] log-density of the query's noise, differentiable in the query; undefined without noise or score_weight
};

struct TapeReaderConfig {
  int64_t before_block = 1;
  std::string bank = "input";
  std::string query = "auto";                   // auto | token | gap | learned
  std::optional<int64_t> max_tape_tokens = 10;  // T; "bank" = ceil(rows / K) for each example
  double threshold = 2.0;                       // tau; with max_tape_tokens = "bank" a share of T
  std::vector<double> random_threshold;         // empty, or lowest and highest tau of a training example; evaluation uses threshold
  std::optional<int64_t> rows_per_step;         // K; "auto" = floor(T / tau)
  std::string halting = "threshold";            // threshold | none
  std::string selection = "query";              // query | all | given_order | sorted | random
  std::optional<int64_t> key_split;             // d = D / key_split; "heads"
  std::string query_update = "average";
  std::string ponder = "entropy";
  std::optional<int64_t> mlp_width;  // "auto" = 4 D
  double query_noise = 0;
  std::string query_noise_place = "before_norm";  // before_norm (all of the raw query) | after_norm (the keys' share of the normalised one)
  int64_t query_noise_anneal_steps = 0;           // 0: constant
  double score_weight = 0;
  double bank_mask = 0;
  void fields(FieldVisitor& visit);
  // Puts numbers in the place of "auto" and "heads", and checks what belongs together; index is for error texts.
  void resolve(int64_t index, int64_t width, int64_t heads);
};

struct TapeReader : Module {
  TapeReader(const TapeReaderConfig& config, int64_t index, int64_t width);
  void initialize(at::Generator& generator);

  // query [B, D] raw; reads the bank, passes what was read through the tape MLP and appends it to x as kTape tokens.
  // bank_name is for the record of work.
  PackedTokens forward(const PackedTokens& x, const torch::Tensor& query, const BankRows& bank, const ForwardContext& context,
                       TapeReading& reading) const;

  TapeReaderConfig config;
  int64_t index;
  int64_t width;
  std::shared_ptr<LayerNorm> norm;  // of query and bank rows alike
  std::shared_ptr<GluMlp> mlp;
  torch::Tensor query;  // [D]; only with query = "learned"

 private:
  struct NoisyQuery {
    torch::Tensor raw;          // [B, D]
    torch::Tensor offset;       // [B, d], or undefined: the query_offset of tape_read
    torch::Tensor log_density;  // [B], or undefined
  };
  NoisyQuery noisy(const torch::Tensor& raw, const ForwardContext& context) const;
  // Bank mask [R] or [B, M] of this step, or undefined.
  torch::Tensor drawn_mask(const BankRows& bank, int64_t batch, const ForwardContext& context) const;
  // Threshold of each example of this step [B] float32 by random_threshold, or undefined.
  torch::Tensor drawn_thresholds(const ForwardContext& context) const;
  // The `order` argument of tape_read for controls, or undefined for selection by query.
  torch::Tensor order_of(const BankRows& bank, int64_t batch, const ForwardContext& context) const;
};

}  // namespace adatape
