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

// The most symbols of the answer to a prompt: the last one is not read again, so it needs no position. Without learned positions no bound.
int64_t answer_bound(const TextModel& model, const std::vector<int64_t>& prompt, const std::optional<int64_t>& wanted) {
  const auto length = static_cast<int64_t>(prompt.size());
  ADATAPE_CHECK(length > 0, kWhere, "expected a prompt of at least one symbol, got an empty one");
  if (!model.longest()) return wanted.value_or(GenerateOptions::kSymbols);
  const int64_t longest = *model.longest();
  ADATAPE_CHECK(length <= longest, kWhere, "expected prompts of at most ", longest, " symbols (the model's learned positions), got one of ",
                length, "; shorten it");
  const int64_t room = model.encoder_decoder() ? longest : longest - length + 1;
  ADATAPE_CHECK(wanted.value_or(0) <= room, kWhere, "expected at most ", room, " symbols after a prompt of ", length, " (the model has ",
                longest, " learned positions), got ", wanted.value_or(0), "; ask for fewer");
  return wanted.value_or(std::min(room, GenerateOptions::kSymbols));
}

}  // namespace

std::vector<uint64_t> prompt_identities(const std::vector<std::vector<int64_t>>& prompts) {
  std::vector<uint64_t> identities;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto before = static_cast<uint64_t>(std::count(prompts.begin(), prompts.begin() + static_cast<std::ptrdiff_t>(i), prompts[i]));
    uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a, a symbol at a time
    for (const int64_t symbol : prompts[i]) hash = (hash ^ static_cast<uint64_t>(symbol)) * 0x100'0000'01b3;
    identities.push_back(before == 0 ? hash : (hash ^ before << 32) * 0x100'0000'01b3);
  }
  return identities;
}

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
  std::vector<int64_t> symbols, lengths, bounds;
  for (const std::vector<int64_t>& prompt : prompts) {
    bounds.push_back(answer_bound(model, prompt, options.symbols));
    symbols.insert(symbols.end(), prompt.begin(), prompt.end());
    lengths.push_back(static_cast<int64_t>(prompt.size()));
    batch.offsets.push_back(static_cast<int64_t>(symbols.size()));
  }
  std::vector<std::vector<int64_t>> answers(prompts.size());
  if (prompts.empty() || options.symbols == 0) return answers;
  const std::vector<uint64_t> identities = examples.empty() ? prompt_identities(prompts) : examples;
  batch.symbols = index_tensor(symbols, device);
  DecodingState state = model.begin(batch);
  if (model.encoder_decoder()) {
    symbols.assign(prompts.size(), options.start);
    lengths.assign(prompts.size(), 1);
  }
  std::vector<uint8_t> running(prompts.size(), 1);
  for (int64_t place = 0;; ++place) {
    const auto layout = std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, device);
    const torch::Tensor logits = model.decode(index_tensor(symbols, device), layout, state).to(torch::kCPU, torch::kDouble).contiguous();
    const int64_t classes = logits.size(1);
    std::vector<int64_t> newest(prompts.size(), -1);
    symbols.clear();
    for (size_t b = 0; b < prompts.size(); ++b) {
      if (!running[b]) continue;
      const double* last = logits.const_data_ptr<double>() + (layout->offsets()[b + 1] - 1) * classes;
      CounterRng random(options.seed, static_cast<uint64_t>(place), site(Site::kSampling), identities[b]);
      const int64_t symbol = draw(last, classes, options, random);
      if (symbol != options.stop) {
        newest[b] = symbol;
        answers[b].push_back(symbol);
      }
      running[b] = symbol != options.stop && place + 1 < bounds[b];
      lengths[b] = running[b];
      if (running[b]) symbols.push_back(symbol);
    }
    if (on_symbols) on_symbols(newest);
    if (symbols.empty()) break;
  }
  return answers;
}

}  // namespace adatape
