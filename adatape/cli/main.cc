// The program: a table of commands, and the one place where errors become a line on stderr.
#include <c10/util/Exception.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "adatape/cli/command.h"
#include "adatape/core/check.h"
#include "adatape/core/config.h"
#include "adatape/core/memory.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"
#include "adatape/train/run_record.h"
#include "adatape/train/version.h"

namespace adatape::cli {
namespace {

constexpr int kFailed = 2;

const std::vector<Command> kCommands = {
    {"train", "train a model from a configuration into a run folder; go on with a stopped run", declare_train},
    {"evaluate", "accuracy, tokens, cost and speed of a run or model folder on held-out data", declare_evaluate},
    {"predict", "which class pictures show, what that cost and which patches were read", declare_predict},
    {"analyse", "pictures and a page of what a model with tapes reads", declare_analyse},
    {"compare", "a table and a page that set several runs side by side", declare_compare},
    {"bench", "speed, parameters and cost of untrained models of published sizes", declare_bench},
    {"forward", "run a model on the tensors of a file and write every intermediate", declare_forward},
    {"generate", "what a text model writes after a prompt", declare_generate},
    {"import", "turn published weights into a model folder", declare_import},
    {"export", "write a model's weights as another library names them", declare_export},
    {"verify", "run golden cases: models with answers computed elsewhere", declare_verify},
    {"list", "models, tasks and every option with its default", declare_list},
};

constexpr const char* kDescription =
    "adatape: train and measure transformers whose computation adapts to each example\n"
    "(AdaTape, Universal Transformer and their fixed-budget baselines).";

constexpr const char* kExamples =
    "Examples:\n"
    "  adatape list models                                    what there is\n"
    "  adatape train configs/parity/adatape.toml              train, evaluate, write runs/adatape/\n"
    "  adatape evaluate runs/adatape --set model.readers.0.threshold=3\n"
    "  adatape compare runs/*/ --output comparison            a table, and comparison/report.html\n"
    "\n"
    "`adatape COMMAND --help` tells more. Errors are one line on stderr and exit status 2; Ctrl-C saves and gives 130, SIGTERM 143.";

std::string typed_command_line;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

int fail(const std::string& message) {
  std::cerr << "adatape: error: " << for_terminal(first_line(message)) << std::endl;
  return kFailed;
}

std::string hint(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = nearest_word(word, known);
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

// "unknown option --outptu; did you mean --output?"
std::string unknown_arguments(const CLI::App& program, const std::vector<CLI::App*>& chosen) {
  const CLI::App& app = chosen.empty() ? program : *chosen.front();
  const std::vector<std::string> rest = program.remaining(/*recurse=*/true);
  const std::string word = rest.empty() ? "" : rest.front();
  const std::string name = word.substr(0, word.find('='));
  std::vector<std::string> known = {"--help"};
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& long_name : option->get_lnames()) known.push_back("--" + long_name);
  }
  const std::string see = chosen.empty() ? " (see adatape --help)" : concat(" (see adatape ", app.get_name(), " --help)");
  if (word.starts_with("-")) return concat("unknown option ", name, hint(name, known), see);
  // Options that may be repeated take one value each time.
  std::string repeat;
  for (const CLI::Option* option : app.get_options()) {
    if (repeat.empty() && option->count() > 0 && option->get_items_expected_max() > 1 && !option->get_lnames().empty())
      repeat = concat("; for another --", option->get_lnames().front(), " repeat the option");
  }
  return concat("unexpected argument ", word, repeat, see);
}

int run(int argc, char** argv) {
  CLI::App program(kDescription, "adatape");
  program.footer(kExamples);
  program.set_version_flag("--version", concat("adatape ", kVersion, " (torch ", torch_version(), ")"), "print the version");
  program.set_help_flag("-h,--help", "print this help");
  program.require_subcommand(1);
  std::vector<std::string> names;
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  for (const Command& command : kCommands) {
    CLI::App* app = program.add_subcommand(command.name, command.summary);
    names.emplace_back(command.name);
    commands.emplace_back(app, command.declare(*app));
  }
  if (argc < 2) {
    std::cout << program.help();
    return 0;
  }
  if (argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
    return fail(concat("unknown command ", argv[1], hint(argv[1], names), " (see adatape --help)"));
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    return fail(unknown_arguments(program, program.get_subcommands()));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);  // --help, --version
    const std::vector<CLI::App*> chosen = program.get_subcommands();
    if (chosen.empty() && !program.remaining().empty()) return fail(unknown_arguments(program, chosen));
    return fail(concat(first_line(error.what()), " (see adatape ", chosen.empty() ? "" : chosen.front()->get_name() + " ", "--help)"));
  }
  for (const auto& [app, execute] : commands) {
    if (!app->parsed()) continue;
    const int status = execute();
    std::cout.flush();
    if (!std::cout) return fail("cannot write to standard output");
    return status;
  }
  return 0;
}

// torch tells of memory in a long sentence; this is what to do about it.
bool speaks_of_memory(const std::string& message) {
  return message.find("can't allocate memory") != std::string::npos || message.find("out of memory") != std::string::npos;
}

// With what this command's own options can do about it.
std::string no_memory(const std::string& command) {
  const char* advice = command == "train"      ? ": lower training.batch_size or evaluation.batch_size, or raise training.accumulate"
                       : command == "evaluate" ? ": lower --batch-size"
                       : command == "bench"    ? ": lower --batch or --image-size"
                       : command == "forward"  ? ": give it fewer examples at a time"
                       : command == "generate" ? ": give fewer prompts or lower --tokens"
                                               : "";
  return concat("out of memory", advice);
}

// 128 and the number of the signal, as shells have it.
int interrupted_status() {
  const int number = stop_signal();
  return 128 + (number != 0 ? number : SIGINT);
}

}  // namespace

std::string command_line() { return typed_command_line; }

int guarded_main(int argc, char** argv) {
  typed_command_line = "adatape";
  for (int i = 1; i < argc; ++i) typed_command_line += " " + shell_quote(argv[i]);
  const std::string command = argc > 1 ? argv[1] : "";
  try {
    return run(argc, argv);
  } catch (const Interrupted& interrupted) {
    std::cerr << "adatape: " << first_line(interrupted.what()) << std::endl;
    return interrupted_status();
  } catch (const Error& error) {
    return fail(error.what());
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return fail(speaks_of_memory(message) ? concat(no_memory(command), " (", first_line(message), ")") : message);
  } catch (const std::bad_alloc&) {
    return fail(no_memory(command));
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

}  // namespace adatape::cli

int main(int argc, char** argv) {
  adatape::keep_freed_memory();
  return adatape::cli::guarded_main(argc, argv);
}
