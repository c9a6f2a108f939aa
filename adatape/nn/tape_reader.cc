#include "adatape/nn/tape_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/nn/segments.h"
#include "adatape/ops/tape_read/tape_read.h"

namespace adatape {

void TapeReaderConfig::fields(FieldVisitor& visit) {
  visit.integer("before_block", before_block, {0, 100000}, "the reading happens before this block (the first is 0)");
  visit.text("bank", bank, "name of the bank that is read");
  visit.choice("query", query, {"auto", "token", "gap", "learned"},
               "first query: class token, mean of the example's tokens, or a learned vector of this reader; auto follows model.pooling");
  visit.integer_or("max_tape_tokens", max_tape_tokens, "bank", {1, 1000000}, "longest tape T; \"bank\" = ceil(rows / K) for each example");
  visit.real("threshold", threshold, {0, std::numeric_limits<double>::infinity(), true},
             "halting threshold tau (with max_tape_tokens = \"bank\": a share of T); moving it later never changes K");
  visit.reals(
      "random_threshold", random_threshold, {0, std::numeric_limits<double>::infinity(), true},
      "lowest and highest threshold, [low, high]: while training each example draws its own (the same place in the range for all readers), "
      "so that one model serves many tape lengths; empty: threshold always");
  visit.integer_or("rows_per_step", rows_per_step, "auto", {1, 1000000}, "bank rows K merged into one tape token; auto = floor(T / tau)");
  visit.choice("halting", halting, {"threshold", "none"}, "stop when the threshold is reached, or read T tokens always");
  visit.choice("selection", selection, {"query", "all", "given_order", "sorted", "random"},
               "which rows are read next: the query's best, or for controls all rows at once, in the order given, sorted by their first "
               "feature, at random");
  visit.integer_or("key_split", key_split, "heads", {1, 1000000}, "keys are the first width / key_split features of a row");
  visit.choice("query_update", query_update, {"average", "replace"}, "how a tape token changes the query");
  visit.choice("ponder", ponder, {"entropy", "max"}, "ponder loss of a step: 1 - sum of squared weights, or 1 - largest weight");
  visit.integer_or("mlp_width", mlp_width, "auto", {1, 10000000}, "width of the tape MLP (GLU); auto = 4 x width");
  visit.real("query_noise", query_noise, {0, 1e6}, "deviation of Gaussian noise on the query while training, drawn once an example");
  visit.choice("query_noise_place", query_noise_place, {"before_norm", "after_norm"},
               "where query_noise is added: to the raw query, or to the features of the normalised query that meet the keys");
  visit.integer("query_noise_anneal_steps", query_noise_anneal_steps, {0, 1000000000},
                "training steps (of a draw of the weights) over which query_noise falls linearly to 0; 0 = it stays");
  visit.real(
      "score_weight", score_weight, {0, 1e6},
      "weight of a score-function term, through which the task loss moves the query towards better reading orders; needs query_noise");
  visit.real("bank_mask", bank_mask, {0, 0.999}, "share of bank rows hidden from an example while training");
}

void TapeReaderConfig::resolve(int64_t index, int64_t width, int64_t heads) {
  const std::string key = "model.readers." + std::to_string(index) + ".";
  const int64_t split = key_split.value_or(heads);
  ADATAPE_CHECK(width % split == 0, "config", key, "key_split: expected a divisor of model.width ", width, ", got ", split);
  key_split = split;
  if (!mlp_width) mlp_width = 4 * width;
  ADATAPE_CHECK(score_weight == 0 || query_noise > 0, "config", key,
                "score_weight: expected query_noise > 0 beside it (the noise is what it learns from), got ", "score_weight ", score_weight,
                " and query_noise 0");
  ADATAPE_CHECK(score_weight == 0 || selection == "query", "config", key, "score_weight: expected selection = \"query\" beside it, got \"",
                selection, "\", which reads without a query");
  if (selection == "all") rows_per_step = 1;
  if (halting == "none" || selection == "all") {
    ADATAPE_CHECK(random_threshold.empty(), "config", key, "random_threshold: expected a reader that halts by a threshold beside it");
    ADATAPE_CHECK(rows_per_step.has_value(), "config", key,
                  "rows_per_step: expected a number, because halting = \"none\" leaves no threshold to derive it from");
    return;
  }
  const double longest = max_tape_tokens ? static_cast<double>(*max_tape_tokens) : 1.0;
  ADATAPE_CHECK(std::isfinite(threshold), "config", key, "threshold: expected a finite number, got ", threshold,
                "; halting = \"none\" reads without one");
  ADATAPE_CHECK(threshold <= longest, "config", key, "threshold: expected at most ",
                max_tape_tokens ? concat("max_tape_tokens = ", *max_tape_tokens) : std::string("1 (a share of the longest tape)"), ", got ",
                threshold);
  ADATAPE_CHECK(random_threshold.empty() ||
                    (random_threshold.size() == 2 && random_threshold[0] <= random_threshold[1] && random_threshold[1] <= longest),
                "config", key, "random_threshold: expected [low, high] with low <= high <= ", longest, ", got ", random_threshold.size(),
                " numbers", random_threshold.size() == 2 ? concat(", ", random_threshold[0], " and ", random_threshold[1]) : "");
  const double rows = longest / threshold;
  ADATAPE_CHECK(rows_per_step || rows <= 1e6, "config", key, "threshold: expected at least ", longest / 1e6,
                ", so that a step reads at most 1000000 rows, got ", threshold);
  // The small term keeps 6 / 2.0000000001-like divisions of exact ratios from losing a row.
  if (!rows_per_step) rows_per_step = std::max<int64_t>(1, static_cast<int64_t>(std::floor(rows + 1e-9)));
}

TapeReader::TapeReader(const TapeReaderConfig& config_, int64_t index_, int64_t width_) : config(config_), index(index_), width(width_) {
  norm = register_module("norm", std::make_shared<LayerNorm>(width));
  mlp = register_module("mlp", std::make_shared<GluMlp>(width, *config.mlp_width));
  if (config.query == "learned") query = register_parameter("query", torch::zeros({width}));
}

void TapeReader::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  norm->weight.fill_(1);
  norm->bias.zero_();
  mlp->initialize(generator);
  if (query.defined()) normal(query, 0.02, generator);
}

TapeReader::NoisyQuery TapeReader::noisy(const torch::Tensor& raw, const ForwardContext& context) const {
  double deviation = context.training ? config.query_noise : 0;
  if (config.query_noise_anneal_steps > 0) {
    deviation *= std::max(0.0, 1 - static_cast<double>(context.draw_step) / static_cast<double>(config.query_noise_anneal_steps));
  }
  if (deviation <= 0) return {raw, {}, {}};
  const bool before_norm = config.query_noise_place == "before_norm";
  const int64_t features = before_norm ? width : width / *config.key_split;
  const torch::Tensor noise =
      counter_normal(context.seed, context.step, site(Site::kQueryNoise, static_cast<uint32_t>(index)), context.examples, features)
          .to(raw.options().requires_grad(false)) *
      deviation;
  NoisyQuery result{before_norm ? raw + noise : raw, before_norm ? torch::Tensor() : noise, {}};
  if (config.score_weight > 0) {
    // log N(x; mean, deviation^2): what was drawn, x, is a constant, and the mean is what learns.
    const torch::Tensor mean = before_norm ? raw : norm->forward(raw).narrow(1, 0, features);
    const torch::Tensor distance = (mean.detach() + noise - mean) / deviation;
    result.log_density = -0.5 * distance.square().sum(1) - features * std::log(deviation * std::sqrt(2 * std::numbers::pi));
  }
  return result;
}

namespace {

// uniform [0, 1) for each row of a bank: [R] packed or [B, M] shared; an example's draws do not depend on its batch.
torch::Tensor drawn_for_rows(const BankRows& bank, int64_t batch, const ForwardContext& context, uint32_t where) {
  const int64_t longest = bank.layout ? bank.layout->longest() : bank.values.size(0);
  torch::Tensor drawn = counter_uniform(context.seed, context.step, where, context.examples, std::max<int64_t>(longest, 1));
  if (!bank.layout) return drawn;
  std::vector<torch::Tensor> parts = {drawn.new_zeros({0})};  // a batch may have no examples
  for (int64_t b = 0; b < batch; ++b) parts.push_back(drawn[b].narrow(0, 0, bank.layout->lengths()[b]));
  return torch::cat(parts);
}

}  // namespace

torch::Tensor TapeReader::drawn_mask(const BankRows& bank, int64_t batch, const ForwardContext& context) const {
  if (!context.training || config.bank_mask <= 0) return {};
  return (drawn_for_rows(bank, batch, context, site(Site::kBankMask, static_cast<uint32_t>(index))) >= config.bank_mask)
      .to(bank.values.device());
}

torch::Tensor TapeReader::order_of(const BankRows& bank, int64_t batch, const ForwardContext& context) const {
  if (config.selection == "query") return {};
  torch::NoGradGuard no_grad;
  torch::Tensor rank;  // rows are read by ascending rank, ties in the order given
  if (config.selection == "sorted") {
    rank = norm->forward(bank.values).select(1, 0);
  } else if (config.selection == "random") {
    rank = drawn_for_rows(bank, batch, context, site(Site::kSelection, static_cast<uint32_t>(index))).to(bank.values.device());
  } else {
    rank = torch::zeros({bank.values.size(0)}, bank.values.options());
  }
  if (!bank.layout) return at::argsort(rank.dim() == 2 ? rank : rank.expand({batch, -1}), true, -1, false);
  if (bank.layout->uniform() && bank.layout->longest() > 0)  // as of images: all examples at once
    return at::argsort(rank.reshape({batch, bank.layout->longest()}), true, -1, false).flatten();
  std::vector<torch::Tensor> orders = {index_tensor({}, rank.device())};  // a batch may have no examples
  for (int64_t b = 0; b < batch; ++b) {
    orders.push_back(at::argsort(rank.narrow(0, bank.layout->offsets()[b], bank.layout->lengths()[b]), true, 0, false));
  }
  return torch::cat(orders);
}

torch::Tensor TapeReader::drawn_thresholds(const ForwardContext& context) const {
  if (!context.training || config.random_threshold.empty()) return {};
  const double low = config.random_threshold[0], high = config.random_threshold[1];
  // No reader in the site: the knob moves all readers by one share, and so does training.
  return counter_uniform(context.seed, context.step, site(Site::kThreshold), context.examples, 1).view({-1}) * (high - low) + low;
}

PackedTokens TapeReader::forward(const PackedTokens& x, const torch::Tensor& raw_query, const BankRows& bank, const ForwardContext& context,
                                 TapeReading& reading) const {
  const int64_t batch = x.layout->batch(), rows = *config.rows_per_step;
  const torch::Device device = x.values.device();
  const torch::Tensor mask = drawn_mask(bank, batch, context), order = order_of(bank, batch, context);
  const auto optional = [](const torch::Tensor& tensor) { return tensor.defined() ? std::optional<torch::Tensor>(tensor) : std::nullopt; };

  ops::TapeReadOptions options;
  options.key_width = width / *config.key_split;
  options.rows_per_step = rows;
  options.query_update = config.query_update;
  options.ponder = config.ponder;
  options.norm_epsilon = norm->epsilon;
  const bool halts = config.halting == "threshold" && config.selection != "all";
  options.threshold = halts ? config.threshold : std::numeric_limits<double>::infinity();
  torch::Tensor limits, thresholds = drawn_thresholds(context);
  if (thresholds.defined()) thresholds = thresholds.to(device);
  if (config.max_tape_tokens && config.selection != "all") {
    options.max_steps = *config.max_tape_tokens;
  } else {
    std::vector<int64_t> longest(static_cast<size_t>(batch));
    for (int64_t b = 0; b < batch; ++b) longest[b] = (bank.rows_of(b) + rows - 1) / rows;
    options.max_steps = std::max<int64_t>(1, longest.empty() ? 1 : *std::max_element(longest.begin(), longest.end()));
    limits = index_tensor(longest, device);
    if (halts) thresholds = thresholds.defined() ? limits * thresholds : limits.to(torch::kFloat32) * config.threshold;
  }

  const NoisyQuery query_read = noisy(raw_query, context);
  reading.query_log_density = query_read.log_density;
  std::tie(reading.tokens, reading.weights, reading.indices, reading.lengths, reading.ponder, reading.halting) =
      ops::tape_read(query_read.raw.to(bank.values.scalar_type()), bank.values,
                     bank.layout ? std::optional<torch::Tensor>(bank.layout->offsets_tensor()) : std::nullopt, norm->weight, norm->bias,
                     options, optional(thresholds), optional(limits), optional(mask), optional(order), optional(query_read.offset));
  reading.reader = index;
  reading.before_block = config.before_block;

  const torch::Tensor lengths_cpu = reading.lengths.to(torch::kCPU);
  const std::vector<int64_t> lengths(lengths_cpu.data_ptr<int64_t>(), lengths_cpu.data_ptr<int64_t>() + batch);
  auto read = std::make_shared<Segments>();
  for (int64_t b = 0; b < batch; ++b) add_segment(*read, {0, b * options.max_steps, lengths[b]});
  const std::string part = "reader " + std::to_string(index);
  if (context.work != nullptr) {
    std::vector<int64_t> scored(static_cast<size_t>(batch)), merged(static_cast<size_t>(batch));
    for (int64_t b = 0; b < batch; ++b) {
      scored[b] = bank.rows_of(b) * lengths[b];
      merged[b] = std::min(bank.rows_of(b), rows * lengths[b]);
    }
    if (config.selection == "query") context.count(part + " / scores", scored, {2 * options.key_width, options.key_width, 0});
    context.count(part + " / merge", merged, {2 * width, width, 0});
    context.count(part + " / tape MLP", lengths, mlp->cost_per_row());
  }
  const torch::Tensor tokens = join_segments({reading.tokens.view({-1, width})}, read);
  return append_tokens(x, mlp->forward(tokens), lengths, TokenKind::kTape);
}

}  // namespace adatape
