#!/usr/bin/env bash
# Tests that need Python packages: the op under the real torch, the program's files under the real safetensors and TensorBoard.
# Makes build/python (a virtual environment, about 5 GB) at first use or when the versions below change; a second run installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(torch==2.11.0 numpy==2.4.6 pytest==9.2.0 safetensors==0.8.0 tensorboard==2.21.0)
environment=build/python

if [ "$(cat "$environment/.installed" 2>/dev/null || true)" != "${packages[*]}" ]; then
  python3 -c 'import ensurepip' 2>/dev/null || { echo "test-python: expected Python's venv module; run as root once: apt-get install python3-venv" >&2; exit 2; }
  echo "test-python: installing ${packages[*]} into $environment (about 5 GB)"
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --only-binary=:all: --disable-pip-version-check "${packages[@]}"
  echo "${packages[*]}" > "$environment/.installed"
fi

exec "$environment/bin/pytest" -q -p no:cacheprovider python "$@"
