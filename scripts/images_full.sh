#!/usr/bin/env bash
# The image family with several seeds: the short recipe, cluttered scenes and the long recipe. Goes on where it stopped: finished runs are
# kept, others resumed. Tables and reports in runs/images-full/{fashion_mnist,cluttered_scenes,long}.
#   SEEDS=1 ONLY=cluttered_scenes make images-full     fewer seeds, one part
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
seeds=${SEEDS:-3}
only=${ONLY:-fashion_mnist cluttered_scenes long}
for part in $only; do
  case $part in
    long) configs=configs/images/fashion_mnist/long ;;
    *) configs=configs/images/$part ;;
  esac
  [ -d "$configs" ] || { echo "images: expected fashion_mnist, cluttered_scenes or long in ONLY, got $part" >&2; exit 2; }
  out=runs/images-full/$part
  mkdir -p "$out"
  for seed in $(seq 1 "$seeds"); do
    for config in "$configs"/*.toml; do
      run=$out/$(basename "$config" .toml)_seed_$seed
      [ -f "$run/result.json" ] && continue
      resume=()
      [ -d "$run" ] && resume=(--resume)
      $adatape train "$config" --seed "$seed" --output "$run" "${resume[@]}" "$@"
    done
  done
  echo
  $adatape compare "$out"/*/ --output "$out"
done
