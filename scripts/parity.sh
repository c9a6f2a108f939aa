#!/usr/bin/env bash
# The main table: AdaTape, a Transformer and a Universal Transformer on parity, with the check that the baselines can train.
# AdaTape trains alone on all cores (its time is a result); the others run side by side, a core each.
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
out=runs/parity
# Results of an earlier call stay, beside the new ones.
[ ! -d "$out" ] || mv "$out" "$out"_"$(date -r "$out" +%Y%m%d_%H%M%S)"
mkdir -p "$out"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

echo "AdaTape on parity, length 32:"
$adatape train configs/parity/adatape.toml --output "$out/adatape"

jobs_file=$(mktemp)
for model in universal_transformer transformer; do
  for rate in 3e-4 1e-3 3e-3; do
    echo "configs/parity/$model.toml --set training.learning_rate=$rate --output $out/${model}_$rate"
  done
done > "$jobs_file"
for control in transformer_first_symbol universal_transformer_first_symbol sorted given_order read_everything; do
  echo "configs/parity/control_$control.toml --output $out/control_$control"
done >> "$jobs_file"
total=$(wc -l < "$jobs_file")
echo "Baselines (three learning rates each, no early stop) and controls: $total runs, $(nproc) at a time"
# shellcheck disable=SC2016
xargs -a "$jobs_file" -P "$(nproc)" -I{} sh -c '
  set -- {}
  start=$(date +%s)
  '"$adatape"' train "$@" --threads 1 --quiet > "$(mktemp -p "'"$out"'" log.XXXXXX)" 2>&1 || { echo "failed: $*" >&2; tail -n 3 "'"$out"'"/log.* >&2; exit 255; }
  echo "  $(( $(date +%s) - start )) s  $*"'
rm -f "$jobs_file" "$out"/log.*

echo
$adatape compare "$out"/*/ --output "$out"
