// Tasks made from TOML, for tests.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/core/config.h"
#include "adatape/tasks/task.h"

namespace adatape::testing {

inline std::unique_ptr<Task> task_of(const std::string& name, const std::string& toml = "") {
  const std::unique_ptr<TaskConfig> config = find_task(name).make_config();
  ConfigDocument::from_text(toml).read(*config);
  config->validate();
  return find_task(name).make_task(*config);
}

inline std::string refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline std::vector<double> numbers(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

}  // namespace adatape::testing
