#!/usr/bin/env bash
# Deeper checks than the tests: the rule of layers, a sanitizer build and its tests, clang-tidy where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
./scripts/check_layers.sh
cmake --preset sanitize
cmake --build build/sanitize --parallel "$(nproc)"
ctest --preset sanitize
if command -v clang-tidy > /dev/null; then
  ./scripts/tidy.sh
else
  echo "check: clang-tidy is not installed; skipped (apt-get install clang-tidy)"
fi
