// Runs the built program and keeps what it says.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace adatape::testing {

inline std::string content_of(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

struct Outcome {
  int status = -1;  // exit status; 128 + signal when one ended the program
  std::string output, errors;
};

// A folder with a configuration of a small run; the program runs in it.
class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() {
    std::string name = (std::filesystem::temp_directory_path() / "adatape_cli_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    folder_ = name;
    write("tiny.toml", R"([task]
name = "parity"
length = 2
[model]
name = "transformer"
width = 8
heads = 2
ffn_width = 8
blocks = 1
[training]
steps = 40
batch_size = 16
learning_rate = 0.01
warmup_steps = 5
evaluate_every = 10
validation_examples = 64
checkpoint_every = 10
[evaluation]
test_examples = 100
batch_size = 64
)");
  }
  ~ProgramTest() override {
    std::error_code ignored;
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
  void write(const std::string& name, const std::string& content) const { std::ofstream(folder_ / name, std::ios::binary) << content; }

  // Starts `adatape ARGUMENTS` (words split at spaces) with two CPU threads at most.
  pid_t start(const std::string& arguments) const {
    const std::string command = "exec '" ADATAPE_BINARY "' " + arguments;
    const pid_t child = ::fork();
    if (child != 0) return child;
    const int output = ::open(path("stdout.txt").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const int errors = ::open(path("stderr.txt").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (::chdir(folder_.c_str()) != 0 || ::dup2(output, 1) < 0 || ::dup2(errors, 2) < 0) ::_exit(126);
    ::setenv("OMP_NUM_THREADS", "1", 1);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  Outcome finish(pid_t child) const {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), content_of(path("stdout.txt")),
            content_of(path("stderr.txt"))};
  }
  Outcome run(const std::string& arguments) const { return finish(start(arguments)); }

  // Expects one line on stderr, nothing on stdout and status 2; returns the line.
  std::string error_of(const std::string& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments;
    EXPECT_EQ(outcome.output, "") << arguments;
    EXPECT_THAT(outcome.errors, ::testing::StartsWith("adatape: error: ")) << arguments;
    EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome.errors;
    return outcome.errors;
  }

  // Waits up to 20 s for something that another process does.
  static bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 4000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return condition();
  }

  std::filesystem::path folder_;
};

}  // namespace adatape::testing
