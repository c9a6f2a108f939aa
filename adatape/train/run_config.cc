#include "adatape/train/run_config.h"

#include <algorithm>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/core/config_values.h"
#include "adatape/models/presets.h"
#include "adatape/models/registry.h"

namespace adatape {
namespace {

template <class Entry>
std::vector<std::string> names_of(const std::vector<Entry>& registry) {
  std::vector<std::string> names;
  for (const Entry& entry : registry) names.push_back(entry.name);
  return names;
}

std::string required_name(const ConfigDocument& document, const std::string& table, const std::vector<std::string>& names) {
  const std::string key = table + ".name";
  ADATAPE_CHECK(document.has(key), key, "expected one of: ", joined(names), "; the configuration does not set it");
  return document.text_at(key, "");
}

// What neither can say without the other: whether the model reads the sequences that the task gives, and whether it could read the answers.
void check_pair(const ModelEntry& model, const TaskConfig& task, const InputSpec& input) {
  const bool two = input.decoder_length > 0;
  const std::string hint = task.sequences_hint();
  ADATAPE_CHECK(!input.sequences() || model.two_sequences == two, "config", "model.name: \"", model.name, "\" reads ",
                model.two_sequences ? "two sequences, the task gives one" : "one sequence, the task gives two", hint.empty() ? "" : "; ",
                hint);
  if (!task.answers_follow() || model.causal) return;
  std::string names;
  for (const ModelEntry& entry : model_registry()) {
    if (entry.causal && entry.two_sequences == two) names += (names.empty() ? "" : ", ") + entry.name;
  }
  throw Error(concat("config: model.name: expected a causal model (", names, ") for task ", task.name,
                     ", which asks for what follows, got \"", model.name, "\", which would read the answers"));
}

}  // namespace

void TrainingConfig::fields(FieldVisitor& visit) {
  visit.integer("steps", steps, {.minimum = 1}, "optimiser steps (of each draw, where weights are drawn anew); the schedule ends there");
  visit.integer("batch_size", batch_size, {.minimum = 1}, "examples in a step");
  visit.integer("accumulate", accumulate, {.minimum = 1},
                "micro-batches that a step is split into, to save memory; must divide batch_size; the result is the same but for rounding, "
                "unless a loss "
                "sets examples against each other (score_weight, A-ViT's distribution_weight, moe.group = \"batch\")");
  visit.choice("precision", precision, {"float32", "bfloat16"},
               "factors of matrix products and attention; bfloat16 needs a CUDA device: weights, sums, norms and losses stay float32");
  visit.choice(
      "parallel", parallel, {"auto", "examples", "operators"},
      "what CPU threads share: a part of the batch each, or each operator; auto = examples for models of up to 2 million parameters whose "
      "loss sets no examples against each other (see accumulate; \"examples\" splits those too)");
  visit.real("learning_rate", learning_rate, {.minimum = 0, .maximum = 1e38, .exclusive_minimum = true}, "peak learning rate of AdamW");
  visit.integer("warmup_steps", warmup_steps, {.minimum = 0}, "steps over which the learning rate rises linearly from 0");
  visit.choice("schedule", schedule, {"cosine", "constant"}, "learning rate after the warm-up: cosine falls to 0 at the last step");
  visit.real("weight_decay", weight_decay, {.minimum = 0, .maximum = 1e38},
             "decoupled weight decay of parameters with two or more dimensions");
  visit.real("beta1", beta1, {.minimum = 0, .maximum = 1}, "decay of AdamW's mean of gradients; below 1");
  visit.real("beta2", beta2, {.minimum = 0, .maximum = 1}, "decay of AdamW's mean of squared gradients; below 1");
  visit.real("clip_norm", clip_norm, {.minimum = 0, .maximum = 1e38},
             "largest norm of all gradients together; longer ones are scaled down; 0 = off");
  visit.real("average_decay", average_decay, {.minimum = 0, .maximum = 1},
             "decay of a moving average of the weights, which is then what is evaluated and kept as the best weights; below 1; 0 = off");
  visit.integer("data_threads", data_threads, {.minimum = 0, .maximum = 1024},
                "threads that make batches ahead of use; 0 = none of their own; the batches do not depend on it");
  visit.integer("evaluate_every", evaluate_every, {.minimum = 1}, "steps of a draw between evaluations on the validation split");
  visit.integer("validation_examples", validation_examples, {.minimum = 1},
                "examples of the validation split at each evaluation, capped by what the task has");
  visit.real("stop_at", stop_at, {.minimum = 0, .maximum = 1}, "stop as soon as validation accuracy reaches this share; 0 = never");
  visit.real("restart_below", restart_below, {.minimum = 0, .maximum = 1},
             "draw all weights anew when validation accuracy is below this share at restart_after; 0 = never");
  visit.integer("restart_after", restart_after, {.minimum = 1},
                "the first evaluation at or after this step of a draw decides about a new draw");
  visit.integer("maximum_draws", maximum_draws, {.minimum = 1}, "draws of the weights, the first included; the last one runs to its end");
  visit.integer("checkpoint_every", checkpoint_every, {.minimum = 0},
                "steps between checkpoints of the full state; 0 = only at the end and when interrupted");
  visit.integer("keep_checkpoints", keep_checkpoints, {.minimum = 1}, "newest checkpoints to keep");
  visit.integer("seed", seed, {.minimum = 0}, "key of every random draw: weights, data order, dropout, noise");
}

void EvaluationConfig::fields(FieldVisitor& visit) {
  visit.integer("test_examples", test_examples, {.minimum = 1}, "examples of the test split, capped by what the task has");
  visit.integer("batch_size", batch_size, {.minimum = 1}, "examples in a forward pass of an evaluation");
}

void RunConfig::fields(FieldVisitor& visit) {
  visit.text("label", label, "name of the run in tables and plots; default: model.name as it was given");
  visit.text("description", description, "what the run shows, in a sentence or two; reports print it");
  visit.text("published", published,
             "what the source reports for this, in a few words; the page of compare --family sets it beside the result");
  visit.real("goal", goal, {.minimum = 0},
             "what the run should reach, accuracy mostly; 0 = none; compare --family sets it beside the result");
  visit.table("task", *task, "what to learn");
  visit.table("model", *model, "what learns");
  visit.table("training", training, "how to train");
  visit.table("evaluation", evaluation, "how to evaluate");
}

std::string RunConfig::to_toml() { return adatape::to_toml(*this); }

RunConfig RunConfig::from_document(const ConfigDocument& given) {
  ConfigDocument document = given;
  const std::string preset = expand_preset(document);
  RunConfig config;
  config.task = find_task(required_name(document, "task", names_of(task_registry()))).make_config();
  const ModelEntry& entry = find_model(required_name(document, "model", names_of(model_registry())));
  config.model = entry.make_config();
  document.read(config);
  if (config.label.empty()) config.label = preset.empty() ? config.model->name : preset;

  const TrainingConfig& training = config.training;
  ADATAPE_CHECK(training.batch_size % training.accumulate == 0, "training.accumulate", "expected a divisor of training.batch_size (",
                training.batch_size, "), got ", training.accumulate);
  ADATAPE_CHECK(training.beta1 < 1, "training.beta1", "expected a number below 1, got ", training.beta1);
  ADATAPE_CHECK(training.beta2 < 1, "training.beta2", "expected a number below 1, got ", training.beta2);
  ADATAPE_CHECK(training.average_decay < 1, "training.average_decay", "expected a number below 1, got ", training.average_decay);
  config.task->resolve();
  config.task->validate();
  const InputSpec input = config.task->input_spec();
  check_pair(entry, *config.task, input);
  config.model->resolve(input);
  config.model->validate(input);
  return config;
}

}  // namespace adatape
