#!/usr/bin/env bash
# Equal tuning for each model of the image family: three learning rates, one seed; the best by validation is what its configuration has.
# An eighth of the steps: Fashion-MNIST 3,000, cluttered scenes 1,500 (an hour). Goes on where it was stopped; the table has a row for each run.
#   ONLY=cluttered_scenes make images-tuning
set -euo pipefail
cd "$(dirname "$0")/.."
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

train() { # FOLDER MODEL LEARNING_RATE STEPS
  local run=$out/$2_$3_$4_steps
  [ -f "$run/result.json" ] && return 0
  rm -rf "$run"
  build/release/adatape train "configs/images/$1/$2.toml" --set training.learning_rate="$3" --set training.steps="$4" \
    --set training.evaluate_every="$4" --output "$run" --threads 1 --quiet > "$run.log" 2>&1 < /dev/null ||
    { echo "failed: $2 $3: $(tail -n 1 "$run.log")" >&2; return 255; }
  printf '%-24s %s  validation%s\n' "$2" "$3" "$(sed -n 's/^ *validation accuracy *\([^ ]* %\).*/ \1/p' "$run.log")"
  rm -f "$run.log"
}
export -f train
export out
for part in ${ONLY:-fashion_mnist}; do
  case $part in
    fashion_mnist) out=runs/images-tuning steps=3000 rates="1e-3 2e-3 4e-3" ;;
    cluttered_scenes) out=runs/images-tuning-scenes steps=1500 rates="5e-4 1e-3 2e-3" ;;
    *) echo "images-tuning: expected fashion_mnist or cluttered_scenes in ONLY, got $part" >&2; exit 2 ;;
  esac
  mkdir -p "$out"
  for rate in $rates; do
    for model in vit vit_equal_flops adatape_input_bank adatape_learnable_bank uvit u2t avit; do echo "$part $model $rate $steps"; done
  done | OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} bash -c 'train {}'
  echo
  build/release/adatape compare "$out"/*/ --output "$out"
done
