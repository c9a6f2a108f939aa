#!/usr/bin/env bash
# The image family with several seeds: the short recipe, cluttered scenes and the long recipe. A core each, then all are timed together. Goes on
# where it stopped: finished runs are kept, others resumed. Tables and reports in runs/images-full/{fashion_mnist,cluttered_scenes,long}.
#   SEEDS=1 ONLY=cluttered_scenes make images-full     fewer seeds, one part
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
seeds=${SEEDS:-3}
only=${ONLY:-fashion_mnist cluttered_scenes long}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

train() { # RUN CONFIG SEED
  local resume=() start
  [ -f "$1/result.json" ] && return 0
  [ -d "$1" ] && resume=(--resume)
  start=$(date +%s)
  $adatape train "$2" --seed "$3" --output "$1" --threads 1 --quiet "${resume[@]}" > "$1.log" 2>&1 < /dev/null ||
    { echo "failed: $1: $(tail -n 1 "$1.log")" >&2; return 255; }
  echo "$(date +%H:%M:%S)  $1: $(($(date +%s) - start)) s,$(sed -n 's/^ *test accuracy *//p' "$1.log")"
  rm -f "$1.log"
}
export -f train
export adatape
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
      [ -L "$config" ] || echo "$out/$(basename "$config" .toml)_seed_$seed $config $seed"
    done
  done | OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} bash -c 'train {}'
  echo
  $adatape compare "$out"/*/ --speed --sweep --examples 10000 --output "$out"
done
