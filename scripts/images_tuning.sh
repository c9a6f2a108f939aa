#!/usr/bin/env bash
# Equal tuning for each model of the image family: three learning rates, 3,000 steps, one seed; the best by validation is what its configuration has.
# Goes on where it was stopped; the table has a row for each run.
set -euo pipefail
cd "$(dirname "$0")/.."
out=runs/images-tuning
mkdir -p "$out"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

train() { # MODEL LEARNING_RATE
  local run=$out/$1_$2
  [ -f "$run/result.json" ] && return 0
  rm -rf "$run"
  build/release/adatape train "configs/images/fashion_mnist/$1.toml" --set training.learning_rate="$2" --set training.steps=3000 \
    --set training.evaluate_every=3000 --output "$run" --threads 1 --quiet > "$run.log" 2>&1 < /dev/null ||
    { echo "failed: $1 $2: $(tail -n 1 "$run.log")" >&2; return 255; }
  printf '%-24s %s  validation%s\n' "$1" "$2" "$(sed -n 's/^ *validation accuracy *\([^ ]* %\).*/ \1/p' "$run.log")"
  rm -f "$run.log"
}
export -f train
export out
for model in vit vit_equal_flops adatape_input_bank adatape_learnable_bank uvit u2t avit; do
  for rate in 1e-3 2e-3 4e-3; do echo "$model $rate"; done
done | OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} bash -c 'train {}'
echo
build/release/adatape compare "$out"/*/ --output "$out"
