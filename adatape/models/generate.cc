#include "adatape/models/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"

namespace adatape {
namespace {

constexpr char kWhere[] = "generate";

torch::Device device_of(const Model& model) { return model.named_parameters().front().tensor.device(); }

// Draws from softmax(logits / temperature) among the k most likely; ties go to the lower symbol.
int64_t draw(const double* logits, int64_t classes, const GenerateOptions& options, CounterRng random) {
  std::vector<int64_t> order(static_cast<size_t>(classes));
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const int64_t kept = options.temperature == 0 ? 1 : options.top_k > 0 ? std::min(options.top_k, classes) : classes;
  std::partial_sort(order.begin(), order.begin() + kept, order.end(), likelier);
  if (kept == 1) return order.front();
  double sum = 0;
  std::vector<double> mass;
  for (int64_t i = 0; i < kept; ++i) {
    sum += std::exp((logits[order[static_cast<size_t>(i)]] - logits[order.front()]) / options.temperature);
    mass.push_back(sum);
  }
  const double point = random.uniform() * sum;
  const auto found = std::upper_bound(mass.begin(), mass.end(), point) - mass.begin();
  return order[static_cast<size_t>(std::min<int64_t>(found, kept - 1))];
}

}  // namespace

std::vector<std::vector<int64_t>> generate(TextModel& model, const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerateOptions& options, const std::vector<uint64_t>& examples,
                                           const std::function<void(const std::vector<int64_t>&)>& on_symbols) {
  torch::NoGradGuard no_grad;
  ADATAPE_CHECK(examples.empty() || examples.size() == prompts.size(), kWhere, "expected an identity for each of ", prompts.size(),
                " prompts, got ", examples.size());
  ADATAPE_CHECK(std::isfinite(options.temperature) && options.temperature >= 0, kWhere, "expected a temperature >= 0, got ",
                options.temperature);
  const torch::Device device = device_of(model);
  Batch batch;
  batch.offsets = {0};
  std::vector<int64_t> symbols, lengths;
  for (const std::vector<int64_t>& prompt : prompts) {
    ADATAPE_CHECK(!prompt.empty(), kWhere, "expected a prompt of at least one symbol, got an empty one");
    const int64_t length = static_cast<int64_t>(prompt.size()) + (model.encoder_decoder() ? 0 : options.symbols - 1);
    ADATAPE_CHECK(!model.longest() || length <= *model.longest(), kWhere, "expected prompt and answer of at most ", *model.longest(),
                  " symbols (the model's learned positions), got ", prompt.size(), " and ", options.symbols, "; ask for fewer");
    symbols.insert(symbols.end(), prompt.begin(), prompt.end());
    lengths.push_back(static_cast<int64_t>(prompt.size()));
    batch.offsets.push_back(static_cast<int64_t>(symbols.size()));
  }
  std::vector<std::vector<int64_t>> answers(prompts.size());
  if (prompts.empty() || options.symbols == 0) return answers;
  batch.symbols = index_tensor(symbols, device);
  DecodingState state = model.begin(batch);
  if (model.encoder_decoder()) {
    symbols.assign(prompts.size(), options.start);
    lengths.assign(prompts.size(), 1);
  }
  std::vector<uint8_t> running(prompts.size(), 1);
  for (int64_t place = 0; place < options.symbols; ++place) {
    const auto layout = std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, device);
    const torch::Tensor logits = model.decode(index_tensor(symbols, device), layout, state).to(torch::kCPU, torch::kDouble).contiguous();
    const int64_t classes = logits.size(1);
    std::vector<int64_t> newest(prompts.size(), -1);
    symbols.clear();
    for (size_t b = 0; b < prompts.size(); ++b) {
      if (!running[b]) continue;
      const double* last = logits.const_data_ptr<double>() + (layout->offsets()[b + 1] - 1) * classes;
      CounterRng random(options.seed, static_cast<uint64_t>(place), site(Site::kSampling), examples.empty() ? b : examples[b]);
      const int64_t symbol = draw(last, classes, options, random);
      running[b] = symbol != options.stop;
      lengths[b] = running[b];
      if (!running[b]) continue;
      newest[b] = symbol;
      symbols.push_back(symbol);
      answers[b].push_back(symbol);
    }
    if (on_symbols) on_symbols(newest);
    if (symbols.empty()) break;
  }
  return answers;
}

}  // namespace adatape
