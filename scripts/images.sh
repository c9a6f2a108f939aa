#!/usr/bin/env bash
# Fashion-MNIST: AdaTape with both banks, ViT, a ViT of AdaTape's FLOPs, UViT, U2T and A-ViT; equal examples seen, augmentation and optimiser.
# One model after the other on all cores (seconds are results). Goes on where it was stopped; table, report.html and results.json in runs/images.
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
out=runs/images
mkdir -p "$out"
for model in adatape_input_bank adatape_learnable_bank vit vit_equal_flops uvit u2t avit; do
  folder="$out/$model"
  resume=()
  [ -d "$folder" ] && resume=(--resume)
  $adatape train "configs/images/fashion_mnist/$model.toml" --output "$folder" "${resume[@]}" "$@"
done
echo
$adatape compare "$out"/*/ --output "$out"
