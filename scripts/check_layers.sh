#!/usr/bin/env bash
# Layers include only downwards. Prints every include that points up, and fails if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A sees=(
  [core]="core" [ops]="ops core" [nn]="nn ops core" [models]="models nn ops core" [data]="data core" [tasks]="tasks data core"
  [train]="train tasks data models nn ops core" [convert]="convert train tasks data models nn ops core"
  [analysis]="analysis convert train tasks data models nn ops core" [cli]="cli analysis convert train tasks data models nn ops core")
bad=0
while IFS=: read -r file line include; do
  layer=$(cut -d/ -f2 <<< "$file")
  target=$(sed -E 's#.*"adatape/([a-z_]+)/.*#\1#' <<< "$include")
  case " ${sees[$layer]} " in
    *" $target "*) ;;
    *) echo "$file:$line: $layer may not include $target"; bad=1 ;;
  esac
done < <(grep -rnE '#include "adatape/' adatape --include='*.h' --include='*.cc')
[ "$bad" = 0 ] && echo "layers: every include points down"
exit "$bad"
