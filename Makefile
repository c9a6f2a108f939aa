# Two commands: `make parity` (set up, build, train, compare) and `make test`. `make help` lists all.
BUILD := build/release
JOBS ?= $(shell nproc)

.PHONY: all help setup build tests parity parity-full fashion images images-full images-tuning family family-full ablations test test-python check fuzz bench bench-peers format clean
.DEFAULT_GOAL := all

all: build ## build the program: build/release/adatape

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## install Debian packages, LibTorch and plotly.js (a second run changes nothing)
	@./scripts/setup.sh

$(BUILD)/build.ninja: CMakeLists.txt CMakePresets.json | setup
	cmake --preset release

build: setup $(BUILD)/build.ninja
	@cmake --build $(BUILD) --parallel $(JOBS) --target adatape

tests: setup $(BUILD)/build.ninja
	@cmake --build $(BUILD) --parallel $(JOBS)

parity: build ## train AdaTape and its baselines on parity; table and runs/parity/report.html (3 minutes)
	@./scripts/parity.sh

parity-full: build ## every parity run and control with 10 seeds; goes on where it stopped (hours)
	@./scripts/parity_full.sh

fashion: build ## AdaTape-ViT and ViT on Fashion-MNIST; table and runs/fashion/report.html (minutes)
	@./scripts/fashion.sh

images: build ## AdaTape, ViT, UViT, U2T and A-ViT on Fashion-MNIST; accuracy against speed, runs/images/report.html (30 to 70 minutes)
	@./scripts/images.sh

images-full: build ## the same with three seeds, on cluttered scenes and with the long recipe; goes on where it stopped (days)
	@./scripts/images_full.sh

images-tuning: build ## three learning rates for each model of that family, 3,000 steps each (10 minutes)
	@./scripts/images_tuning.sh

family: build ## every system on its own task: goals, published results, time saved; runs/family/report.html (under 40 minutes)
	@cmake --build $(BUILD) --parallel $(JOBS) --target adatape_benchmarks
	@./scripts/family.sh

family-full: build ## all of their configurations with three seeds; goes on where it stopped (a day)
	@cmake --build $(BUILD) --parallel $(JOBS) --target adatape_benchmarks
	@SEEDS=$${SEEDS:-3} LIST=configs/family_full.txt OUT=runs/family-full ./scripts/family.sh

ablations: build ## AdaTape-ViT with one thing changed at a time; table and runs/ablations/report.html (20 minutes)
	@./scripts/ablations.sh

test: tests ## build and run all tests
	@ctest --preset release

test-python: tests ## the op from Python under torch.library.opcheck, files under the real safetensors and TensorBoard (installs 5 GB once)
	@./scripts/test_python.sh

check: setup ## tests under AddressSanitizer and UndefinedBehaviorSanitizer, layer rule, clang-tidy
	@./scripts/check.sh

fuzz: setup ## decoders of pictures, IDX and tar under libFuzzer; SECONDS_EACH=3600 make fuzz
	@JOBS=$(JOBS) ./scripts/fuzz.sh

bench: setup $(BUILD)/build.ninja ## benchmarks, each with its rival in the same run; table and runs/benchmarks.json (10 minutes)
	@cmake --build $(BUILD) --parallel $(JOBS) --target adatape_benchmarks
	@$(BUILD)/adatape_benchmarks --benchmark_counters_tabular=true --json=runs/benchmarks.json

bench-peers: setup $(BUILD)/build.ninja ## S/16 inference beside PyTorch, torch.compile, OpenVINO, ONNX Runtime (installs 6 GB once; 25 minutes)
	@cmake --build $(BUILD) --parallel $(JOBS) --target adatape_peer
	@./scripts/bench_peers.sh

format: ## clang-format all sources
	@git ls-files '*.h' '*.cc' | xargs clang-format -i

clean: ## remove the build, keep third_party and runs
	rm -rf build
