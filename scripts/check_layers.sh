#!/usr/bin/env bash
# Layers include only downwards. Prints every include that points up, and fails if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A sees=(
  [core]="core" [ops]="ops core" [nn]="nn ops core" [models]="models nn ops core" [data]="data core" [tasks]="tasks data core"
  [train]="train tasks data models nn ops core" [convert]="convert train tasks data models nn ops core"
  [analysis]="analysis convert train tasks data models nn ops core" [cli]="cli analysis convert train tasks data models nn ops core")
for layer in "${!sees[@]}"; do echo "$layer ${sees[$layer]}"; done |
  awk 'NR == FNR { for (i = 2; i <= NF; ++i) sees[$1, $i] = 1; next }
       { split($0, place, ":"); split(place[1], from, "/"); split($0, parts, "\"adatape/"); split(parts[2], to, "/")
         if (!((from[2], to[1]) in sees)) { print place[1] ":" place[2] ": " from[2] " may not include " to[1]; bad = 1 } }
       END { if (!bad) print "layers: every include points down"; exit bad }' \
    - <(grep -rnE '#include "adatape/' adatape --include='*.h' --include='*.cc')
