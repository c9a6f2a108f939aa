#!/usr/bin/env bash
# Fashion-MNIST: AdaTape with both banks, ViT, a ViT of AdaTape's FLOPs, UViT, U2T and A-ViT; equal examples seen, augmentation and optimiser.
# A core each, in an order that keeps two busy to the end; then all are timed one after the other on all cores.
# Goes on where it was stopped; table, report.html, frontier.png and results.json in runs/images.
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
out=runs/images
mkdir -p "$out"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

train() { # MODEL
  local model=$1 resume=() start
  [ -f "$out/$model/result.json" ] && return 0
  [ -d "$out/$model" ] && resume=(--resume)
  start=$(date +%s)
  echo "$(date +%H:%M:%S)  $model begins"
  $adatape train "configs/images/fashion_mnist/$model.toml" --output "$out/$model" --threads 1 --quiet "${resume[@]}" \
    > "$out/$model.log" 2>&1 < /dev/null || { echo "failed: $model: $(tail -n 1 "$out/$model.log")" >&2; return 255; }
  echo "$(date +%H:%M:%S)  $model: $(($(date +%s) - start)) s,$(sed -n 's/^ *test accuracy *//p' "$out/$model.log")"
  rm -f "$out/$model.log"
}
export -f train
export adatape out
printf '%s\n' adatape_input_bank u2t vit_equal_flops uvit avit adatape_learnable_bank vit |
  OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} bash -c 'train {}'
echo
$adatape compare "$out"/*/ --speed --sweep --examples 10000 --output "$out"
