#!/usr/bin/env bash
# The decoders of JPEG, PNG, IDX and tar under libFuzzer (tests/fuzz), each for SECONDS_EACH, JOBS at a time. They begin with tests/fuzz/seeds and what
# earlier calls found, kept small in build/fuzz/corpus. A crash, an overrun of memory (MEGABYTES) or of time (a minute an input) is a failure.
#   SECONDS_EACH=3600 make fuzz
#   ONLY=jpeg make fuzz
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SECONDS_EACH:-900} megabytes=${MEGABYTES:-2048} folder=build/fuzz
command -v clang++ > /dev/null || { echo "fuzz: expected clang++ (apt-get install clang), found none" >&2; exit 1; }
cmake -B "$folder" -DADATAPE_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ > /dev/null
cmake --build "$folder" --parallel "${JOBS:-$(nproc)}"

fuzz() { # NAME
  local corpus=$folder/corpus/$1 log=$folder/$1.log seeds=tests/fuzz/seeds/$1 fuzzer=$folder/$1_fuzz begun=$SECONDS
  local limits=(-max_len=65536 "-rss_limit_mb=$megabytes" -timeout=60 "-artifact_prefix=$folder/crashes/$1-")
  mkdir -p "$corpus" "$folder/crashes"
  if ! "$fuzzer" "${limits[@]}" "-max_total_time=$seconds" -print_final_stats=1 "$corpus" "$seeds" > "$log" 2>&1 < /dev/null; then
    echo "failed: $1: $(grep -aE '^SUMMARY|Test unit written' "$log" | tr '\n' ' ') (all in $log; again: $fuzzer FILE)" >&2
    return 1
  fi
  # Inputs that add nothing to others go.
  rm -rf "$corpus.merged"
  mkdir "$corpus.merged"
  "$fuzzer" "${limits[@]}" -merge=1 "$corpus.merged" "$seeds" "$corpus" > "$log.merge" 2>&1 < /dev/null \
    || { echo "failed: $1: could not merge the corpus: $log.merge" >&2; return 1; }
  rm -r "$corpus"
  mv "$corpus.merged" "$corpus"
  echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions in $((SECONDS - begun)) s, no crash; $(ls "$corpus" | wc -l) inputs kept"
}
export -f fuzz
export seconds megabytes folder
printf '%s\n' ${ONLY:-jpeg png idx tar} | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'fuzz {}'
