#!/usr/bin/env bash
# AdaTape-ViT on Fashion-MNIST with one thing changed at a time: table and report in runs/ablations. A core each. Goes on where it stopped.
#   STEPS=200 make ablations     a short try
set -euo pipefail
cd "$(dirname "$0")/.."
adatape=build/release/adatape
steps=${STEPS:-2000}
out=runs/ablations
mkdir -p "$out"

# A line a run: LABEL, then what differs from configs/images/fashion_mnist/adatape_input_bank.toml. Controls read without a query.
variants='adatape
adatape_shared_ffn model.tape_ffn_width=0
adatape_learnable_bank model.banks.0.kind=learnable model.banks.0.rows=512
adatape_longest_5 model.readers.0.max_tape_tokens=5
adatape_longest_20 model.readers.0.max_tape_tokens=20
adatape_threshold_1 model.readers.0.threshold=1
adatape_threshold_4 model.readers.0.threshold=4
adatape_random_threshold model.readers.0.random_threshold=[0.5,10.0]
adatape_replace_query model.readers.0.query_update=replace
adatape_before_block_0 model.readers.0.before_block=0
adatape_before_block_2 model.readers.0.before_block=2
control_no_tape model.readers=[]
control_random model.readers.0.selection=random
control_given_order model.readers.0.selection=given_order
control_read_everything model.readers.0.selection=all'

train() { # LABEL ASSIGNMENTS...
  local label=$1 run=$out/$1 resume=() sets start
  # In so few steps shifts of a pixel cost more than they give, and the higher rate learns faster.
  sets=(--set "label=$1" --set "training.steps=$steps" --set training.evaluate_every=500 --set task.shift=0 --set training.learning_rate=2e-3)
  shift
  [ -f "$run/result.json" ] && return 0
  [ -d "$run" ] && resume=(--resume)
  for assignment in "$@"; do sets+=(--set "$assignment"); done
  start=$(date +%s)
  $adatape train configs/images/fashion_mnist/adatape_input_bank.toml "${sets[@]}" --output "$run" --threads 1 --quiet "${resume[@]}" \
    > "$out/$label.log" 2>&1 < /dev/null || { echo "failed: $label: $(tail -n 1 "$out/$label.log")" >&2; return 255; }
  echo "$(date +%H:%M:%S)  $label: $(($(date +%s) - start)) s, $(sed -n 's/^ *test accuracy *//p' "$out/$label.log")"
  rm -f "$out/$label.log"
}
export -f train
export adatape out steps
OMP_NUM_THREADS=1 xargs -P "$(nproc)" -I{} bash -c 'train {}' <<< "$variants"
echo
$adatape compare "$out"/*/ --speed --output "$out"
