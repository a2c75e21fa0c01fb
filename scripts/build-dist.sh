#!/usr/bin/env bash
# Builds the program that is shipped: the profile dist, compiled for what a node does under load.
#
#   scripts/build-dist.sh [--seconds N]
#
# First a program is built that counts what it does. Three nodes of it and the generators of load run
# for about two minutes (N seconds a load, 12 unless told otherwise), through the native API and
# through etcd's. Then the program is compiled again, with what was counted. The folder with the
# programs, mainstay and examples/etcd-load, is printed at the end.
#
# It takes the toolchain's own llvm-profdata (rustup component add llvm-tools) and three times as
# long as `cargo build --profile dist`, which makes the same program, but a slower one. Everything
# that this script starts it ends, by process id.

set -euo pipefail

seconds=12

usage() {
  sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --seconds) seconds="${2:?--seconds needs a number}"; shift 2 ;;
    *) usage ;;
  esac
done

cd "$(dirname "$0")/.."
# shellcheck source=scripts/measuring.sh
source scripts/measuring.sh
trap clean_up EXIT
trap 'exit 130' INT TERM
MAINSTAY_PORT=26990
endpoints="$(mainstay_endpoints)"

host="$(rustc -vV | sed -n 's/^host: //p')"
profdata="$(rustc --print target-libdir)/../bin/llvm-profdata"
if [[ ! -x "$profdata" ]]; then
  echo "llvm-profdata is missing: rustup component add llvm-tools" >&2
  exit 2
fi
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
counts="$target/counts"

build() { # FOLDER FLAGS: for this machine by name, so that build scripts do without the flags
  CARGO_TARGET_DIR="$1" RUSTFLAGS="--cfg tokio_unstable $2" cargo build --quiet --locked \
    --profile dist --target "$host" -p mainstay-cli --bin mainstay --example etcd-load
}

echo "building a program that counts" >&2
rm -rf "$counts"
build "$target/counting" "-Cprofile-generate=$counts"
mainstay="$target/counting/$host/dist/mainstay"
generator="$target/counting/$host/dist/examples/etcd-load"

echo "counting" >&2
for n in 0 1 2; do start_mainstay_node "$n" "$work"; done
"$mainstay" bench --endpoints "$endpoints" --output json --clients 1 --mode first-write >/dev/null
for load in "put --clients 256 --preload" "get --clients 256" "mixed --clients 256" \
  "put --clients 1" "watch --clients 32"; do
  # shellcheck disable=SC2086
  "$mainstay" bench --endpoints "$endpoints" --output json --seconds "$seconds" --mode $load \
    >/dev/null
done
for mode in put get watch; do
  "$generator" --endpoints "$endpoints" --mode "$mode" --seconds "$seconds" >/dev/null
done
# What was counted is written when a process ends in good order.
for n in 0 1 2; do end_process "${mainstay_pids[$n]}"; done
"$profdata" merge -o "$counts/merged.profdata" "$counts"/*.profraw

echo "building the program" >&2
# cargo does not look into the file that the flag names.
rm -rf "$target/profiled"
build "$target/profiled" "-Cprofile-use=$counts/merged.profdata"
echo "$target/profiled/$host/dist"
