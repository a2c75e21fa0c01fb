#!/usr/bin/env bash
# Finds or fetches an etcd for the conformance suite, and prints the folder of its programs.
#
#   PATH="$(scripts/etcd-for-tests.sh):$PATH" cargo test --workspace --test conformance
#
# What is on the path already is taken as it is (and nothing is printed). Otherwise Debian's
# packages are unpacked below the target folder, not installed: no service is started and nothing
# outside is touched. Where that is not possible it says so and succeeds: the suite then says by
# name what it skips.

set -euo pipefail
cd "$(dirname "$0")/.."

packages=(etcd-server etcd-client)
folder="$PWD/${CARGO_TARGET_DIR:-target}/etcd"
[[ "${CARGO_TARGET_DIR:-}" == /* ]] && folder="$CARGO_TARGET_DIR/etcd"

skip() {
  echo "no etcd for the conformance suite: $*" >&2
  exit 0
}

if [[ -n "${ETCD:-}" ]] || { command -v etcd && command -v etcdctl; } >/dev/null; then
  exit 0
fi
if [[ ! -x "$folder/usr/bin/etcd" || ! -x "$folder/usr/bin/etcdctl" ]]; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    skip "${packages[*]} are packages of Debian, and this is another system"
  mkdir -p "$folder/packages"
  download() { (cd "$folder/packages" && timeout 60 apt-get download -qq "${packages[@]}") >/dev/null 2>&1; }
  if ! download; then
    # A machine that never asked for packages has no lists of them yet.
    [[ "$(id -u)" == 0 ]] && timeout 60 apt-get update -qq >/dev/null 2>&1 && download ||
      skip "apt-get download ${packages[*]} does not work here"
  fi
  for package in "$folder"/packages/*.deb; do
    dpkg-deb --extract "$package" "$folder" || skip "$package cannot be unpacked"
  done
fi
"$folder/usr/bin/etcd" --version >/dev/null 2>&1 || skip "$folder/usr/bin/etcd does not run here"
echo "$folder/usr/bin"
