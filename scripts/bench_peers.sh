#!/usr/bin/env bash
# S/16 inference beside timm in PyTorch, torch.compile, OpenVINO and ONNX Runtime: adds rows to runs/benchmarks.json. With --device cuda B/16 on
# a CUDA device, inference and training, beside PyTorch and torch.compile.
# Makes build/peers (a virtual environment, about 6 GB) at first use or when the versions below change; remove the folder to have the space back.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(torch==2.11.0 torchvision==0.26.0 timm==1.0.31 numpy==2.4.6 safetensors==0.8.0 openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2)
environment=build/peers

if [ "$(cat "$environment/.installed" 2>/dev/null || true)" != "${packages[*]}" ]; then
  python3 -c 'import ensurepip' 2>/dev/null || { echo "bench-peers: expected Python's venv module; run as root once: apt-get install python3-venv" >&2; exit 2; }
  echo "bench-peers: installing ${packages[*]} into $environment (about 6 GB)"
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --only-binary=:all: --disable-pip-version-check "${packages[@]}"
  echo "${packages[*]}" > "$environment/.installed"
fi

script=peers.py
case " $* " in *" --device cuda"* | *" --device=cuda"*) script=peers_cuda.py ;; esac
exec "$environment/bin/python" "benchmarks/peers/$script" "$@"
