#!/usr/bin/env bash
# A small AdaTape-ViT and a ViT of equal shape on Fashion-MNIST.
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
out=runs/fashion
# Results of an earlier call stay, beside the new ones.
[ ! -d "$out" ] || mv "$out" "$out"_"$(date -r "$out" +%Y%m%d_%H%M%S)"
mkdir -p "$out"
for model in adatape vit; do
  $adatape train "configs/fashion/$model.toml" --output "$out/$model"
done
echo
$adatape compare "$out"/*/ --output "$out"
