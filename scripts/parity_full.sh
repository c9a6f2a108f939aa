#!/usr/bin/env bash
# Every configuration of configs/parity with SEEDS seeds (default 10). Goes on where it stopped: finished runs are kept, others resumed.
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
out=runs/parity-full
seeds=${SEEDS:-10}
only=${ONLY:-}
mkdir -p "$out"

train() { # CONFIG RUN ARGUMENTS...
  local config=$1 run=$2
  shift 2
  [ -f "$run/result.json" ] && return 0
  local resume=()
  [ -d "$run" ] && resume=(--resume)
  echo "$(date +%H:%M:%S)  $run"
  $adatape train "$config" --output "$run" --quiet "$@" "${resume[@]}" > "$out/last.log" 2>&1 || { cat "$out/last.log" >&2; return 1; }
}

for seed in $(seq 1 "$seeds"); do
  for config in configs/parity/*.toml; do
    name=$(basename "$config" .toml)
    case " ${only:-$name} " in *" $name "*) ;; *) continue ;; esac
    case $name in
      transformer | universal_transformer)
        for rate in 3e-4 1e-3 3e-3; do
          train "$config" "$out/${name}_${rate}_seed_$seed" --seed "$seed" --set "training.learning_rate=$rate"
        done ;;
      *) train "$config" "$out/${name}_seed_$seed" --seed "$seed" ;;
    esac
  done
done
rm -f "$out/last.log"
$adatape compare "$out"/*/ --output "$out"
