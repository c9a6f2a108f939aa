// A command of the program: one file each, one line in the table of main.cc.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace adatape::cli {

struct Command {
  const char* name;
  const char* summary;
  // Declares options on the subcommand and returns what runs it (exit status). Errors are thrown: main prints one line and returns 2.
  std::function<int()> (*declare)(CLI::App& app);
};

// The command line as typed, quoted for a shell; set by main before a command runs.
std::string command_line();

std::function<int()> declare_train(CLI::App& app);
std::function<int()> declare_evaluate(CLI::App& app);
std::function<int()> declare_predict(CLI::App& app);
std::function<int()> declare_analyse(CLI::App& app);
std::function<int()> declare_compare(CLI::App& app);
std::function<int()> declare_bench(CLI::App& app);
std::function<int()> declare_forward(CLI::App& app);
std::function<int()> declare_generate(CLI::App& app);
std::function<int()> declare_import(CLI::App& app);
std::function<int()> declare_export(CLI::App& app);
std::function<int()> declare_verify(CLI::App& app);
std::function<int()> declare_list(CLI::App& app);

}  // namespace adatape::cli
