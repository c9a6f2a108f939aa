#!/usr/bin/env bash
# clang-tidy over the sources of adatape/ (or those named): half a minute a file that includes torch. It reads the sanitizer build's commands (a source each), made
# fit for clang: without GCC's precompiled header and options.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/build/tidy
[ -f build/sanitize/compile_commands.json ] || cmake --preset sanitize > /dev/null
mkdir -p "$dir"
sed -E 's#"command": ".*ccache /#"command": "/#; s# -fsanitize=[^ ]*| -fno-sanitize=[^ ]*##g; s#-include [^ ]*/cmake_pch\.hxx ##g; s# -fpch-preprocess| -Winvalid-pch| -Wno-error=maybe-uninitialized##g' \
  build/sanitize/compile_commands.json > "$dir/compile_commands.json"
if [ $# -gt 0 ]; then files=("$@"); else mapfile -t files < <(git ls-files 'adatape/*.cc'); fi
echo "tidy: ${#files[@]} files"
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$dir" --quiet 2> "$dir/log" ||
  { grep -v 'warnings generated\|Suppressed\|Use -header' "$dir/log" >&2; exit 1; }
