#!/usr/bin/env bash
# Installs what the build needs: Debian packages, and LibTorch and plotly.js from pinned wheels into third_party/.
# A second run finds everything in place and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r package; do
  [ -z "$package" ] && continue
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done < <(grep -v '^#' scripts/debian-packages.txt)
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: expected root or sudo to install: ${missing[*]}; run as root once: apt-get install ${missing[*]}" >&2; exit 2; }
    as_root=(sudo)
  fi
  echo "setup: installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

wanted=$(sha256sum scripts/python-packages.txt | cut -d' ' -f1)
if [ "$(cat third_party/torch/.installed 2>/dev/null || true)" != "$wanted" ]; then
  echo "setup: installing LibTorch and plotly.js into third_party/ (about 550 MB to download)"
  mkdir -p third_party
  rm -rf third_party/torch.partial
  # The wheels are data here: the tags are fixed, whichever Python runs pip.
  python3 -m pip install --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 --platform any \
    --require-hashes --target third_party/torch.partial --no-compile --disable-pip-version-check --root-user-action=ignore \
    -r scripts/python-packages.txt
  mkdir -p third_party/plotly
  cp third_party/torch.partial/plotly/package_data/plotly.min.js third_party/plotly/plotly.min.js
  rm -rf third_party/torch.partial/plotly third_party/torch.partial/plotly-*
  echo "$wanted" > third_party/torch.partial/.installed
  rm -rf third_party/torch
  mv third_party/torch.partial third_party/torch
fi
