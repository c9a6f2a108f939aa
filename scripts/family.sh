#!/usr/bin/env bash
# Every system of the library on its own task, one small configuration each, a core each, with what halting saves measured last, alone.
# Goes on where it was stopped: finished runs are kept, others resumed. Table, report.html and results.json in runs/family.
#   ONLY="act_logic text_gpt" make family     some of them
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
export adatape
export out=${OUT:-runs/family}
list=${LIST:-configs/family.txt}
seeds=${SEEDS:-1}
read -rd '' -a only <<< "${ONLY:-}" || true

# A line a configuration: NAME CONFIG ARGUMENTS...
list_configurations() {
  grep -v '^#' "$list" | while read -r config arguments; do
    local name
    [ -n "$config" ] || continue
    name=$(sed -n 's/.*--set label=\([^ ]*\).*/\1/p' <<< "$arguments")
    name=${name:-$(basename "$(dirname "$config")")_$(basename "$config" .toml)}
    echo "$name $config $arguments"
  done
}

names=$(list_configurations | cut -d ' ' -f 1 | paste -s -d ' ')
for name in "${only[@]}"; do
  case " $names " in *" $name "*) continue ;; esac
  echo "family: ONLY: got $name, expected names of $list: $names" >&2
  exit 2
done

mkdir -p "$out"
export logs
logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT

train() { # RUN CONFIG ARGUMENTS...
  local name=$1 run=$out/$1 resume=() start
  shift
  [ -f "$run/result.json" ] && return 0
  [ -d "$run" ] && resume=(--resume)
  start=$(date +%s)
  $adatape train "$@" --output "$run" --threads 1 --quiet "${resume[@]}" > "$logs/$name" 2>&1 < /dev/null ||
    { echo "failed: $name: $(tail -n 1 "$logs/$name")" >&2; return 255; }
  echo "$(date +%H:%M:%S)  $(($(date +%s) - start)) s  $name  $(sed -n 's/^ *test accuracy *//p' "$logs/$name")"
}
export -f train

list_runs() {
  for seed in $(seq 1 "$seeds"); do
    list_configurations | while read -r name config arguments; do
      case " ${only[*]:-$name} " in *" $name "*) ;; *) continue ;; esac
      echo "${name}_seed_$seed $config --seed $seed $arguments"
    done
  done
}

echo "$(list_runs | wc -l) runs, $(nproc) at a time, a core each"
list_runs | OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} bash -c 'train {}'
[ -f "$out/benchmarks.json" ] ||
  build/release/adatape_benchmarks --benchmark_filter='halting_saved|recurrent_halting' --json="$out/benchmarks.json" > "$logs/benchmarks"
echo
$adatape compare "$out"/*/ --family --benchmarks "$out/benchmarks.json" --output "$out"
