#!/usr/bin/env bash
# Every configuration of configs/parity with SEEDS seeds (default 10). Goes on where it stopped: finished runs are kept, others resumed.
# AdaTape at length 32 trains alone on all cores, since its time is a result; the other runs go side by side, a core each.
#   SEEDS=3 ONLY="adatape transformer" make parity-full     fewer seeds, some configurations
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
out=runs/parity-full
seeds=${SEEDS:-10}
read -rd '' -a only <<< "${ONLY:-}" || true
names=$(basename -s .toml configs/parity/*.toml | paste -s -d ' ')
for name in "${only[@]}"; do
  case " $names " in *" $name "*) continue ;; esac
  echo "parity-full: ONLY: got $name, expected names of configs/parity: $names" >&2
  exit 2
done
mkdir -p "$out"
logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT

# A line a run: RUN CONFIG ARGUMENTS...
list_runs() {
  for seed in $(seq 1 "$seeds"); do
    for config in configs/parity/*.toml; do
      local name
      name=$(basename "$config" .toml)
      case " ${only[*]:-$name} " in *" $name "*) ;; *) continue ;; esac
      case $name in
        transformer | universal_transformer)
          for rate in 3e-4 1e-3 3e-3; do
            echo "${name}_${rate}_seed_$seed $config --seed $seed --set training.learning_rate=$rate"
          done ;;
        *) echo "${name}_seed_$seed $config --seed $seed" ;;
      esac
    done
  done
}

train() { # THREADS RUN CONFIG ARGUMENTS...
  local threads=$1 name=$2 run=$out/$2 resume=() start
  shift 2
  [ -f "$run/result.json" ] && return 0
  [ -d "$run" ] && resume=(--resume)
  start=$(date +%s)
  $adatape train "$@" --output "$run" --threads "$threads" --quiet "${resume[@]}" > "$logs/$name" 2>&1 ||
    { echo "failed: $name: $(tail -n 1 "$logs/$name")" >&2; return 255; }
  echo "$(date +%H:%M:%S)  $(($(date +%s) - start)) s  $name  $(sed -n 's/^ *test accuracy *//p' "$logs/$name")"
}
export -f train
export adatape out logs

list_runs | sed -n '/^adatape_seed_/p' | while read -r arguments; do
  # shellcheck disable=SC2086
  train "$(nproc)" $arguments < /dev/null
done
list_runs | sed '/^adatape_seed_/d' | xargs -P "$(nproc)" -I{} bash -c 'train 1 {}'
$adatape compare "$out"/*/ --output "$out"
