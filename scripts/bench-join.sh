#!/usr/bin/env bash
# Measures how long an empty node takes to join a cluster that holds data and is written to, and
# what that costs the writers.
#
#   scripts/bench-join.sh [--mebibytes N] [--value-size BYTES] [--rate PER-SECOND] [--binary MAINSTAY] [--keep-logs FOLDER]
#
# Three real nodes on loopback with default flags and data in a temporary folder get 1,024 MiB of
# keys with values of 64 KiB, unless told otherwise, and a snapshot. Then clients write at a steady
# rate (500 a second) for ten seconds alone, and again while a fourth node joins through a follower.
# Printed: p99 of the writes before and meanwhile, and the time from the start of the process until
# the learner has applied what was committed when it started, and until it has a vote. Without
# --binary the shipped profile is built first. Everything that this script starts it ends, by
# process id.

set -euo pipefail

mebibytes=1024
value_size=65536
rate=500
mainstay=""
usage() {
  sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
# shellcheck source=scripts/measuring.sh
source "$(dirname "$0")/measuring.sh"
trap clean_up EXIT
trap 'exit 130' INT TERM

while (($#)); do
  case "$1" in
    --mebibytes) mebibytes="${2:?--mebibytes needs a number}"; shift 2 ;;
    --value-size) value_size="${2:?--value-size needs a number}"; shift 2 ;;
    --rate) rate="${2:?--rate needs a number}"; shift 2 ;;
    --binary) mainstay="$(realpath "${2:?--binary needs a file}")"; shift 2 ;;
    --keep-logs) logs="$(realpath -m "${2:?--keep-logs needs a folder}")"; shift 2 ;;
    *) usage ;;
  esac
done

cd "$(dirname "$0")/.."
build_mainstay
MAINSTAY_PORT=26890
endpoints=""
fourth=$((MAINSTAY_PORT + 30))
p99() { sed -n 's/.*"p99":\([0-9.eE+-]*\).*/\1/p' "$1"; }
now_ms() { date +%s%3N; }
applied() { # PORT: the applied index that the node says of itself
  curl -s -m 1 "http://127.0.0.1:$1/v1/cluster" | sed -n 's/.*"applied_index":"\([0-9]*\)".*/\1/p'
}
load() { # SECONDS FILE
  "$mainstay" bench --endpoints "$endpoints" --mode put --clients 16 --rate "$rate" --keys 10000 \
    --value-size 256 --seconds "$1" --output json >"$2" 2>>"$work/load.log"
}

for n in 0 1 2; do start_mainstay_node "$n" "$work"; done
endpoints="$(mainstay_endpoints)"
"$mainstay" bench --endpoints "$endpoints" --mode first-write >/dev/null
keys=$((mebibytes * 1048576 / value_size))
"$mainstay" bench --endpoints "$endpoints" --mode put --preload --keys "$keys" \
  --value-size "$value_size" --seconds 0 >/dev/null 2>>"$work/load.log"
curl -s -X POST "http://127.0.0.1:$(mainstay_port "$(mainstay_leader)")/v1/cluster/snapshot" >/dev/null
load 10 "$work/before.json"

follower=$((($(mainstay_leader) + 1) % 3))
load 40 "$work/during.json" &
loading=$!
running[$loading]=1
sleep 2
target="$(applied "$(mainstay_port "$(mainstay_leader)")")"
began="$(now_ms)"
"$mainstay" serve --name m3 --data-dir "$work/m3" --client-addr "127.0.0.1:$fourth" \
  --peer-addr "127.0.0.1:$((fourth + 1))" --join "http://127.0.0.1:$(mainstay_port "$follower")" \
  >>"$work/m3.log" 2>&1 &
running[$!]=1
disown "$!"
caught_up=""
voter=""
for _ in $(seq 1200); do
  if [[ -z "$caught_up" ]]; then
    has="$(applied "$fourth" || true)"
    ((${has:-0} >= target)) && caught_up=$(($(now_ms) - began))
  fi
  if "$mainstay" member list --endpoints "$endpoints" 2>/dev/null | grep -q "^m3 .* follower "; then
    voter=$(($(now_ms) - began))
    break
  fi
  sleep 0.1
done
wait "$loading" || true
unset "running[$loading]"
[[ -n "$voter" ]] || { echo "the node did not join; see the logs with --keep-logs" >&2; exit 1; }

echo "data: $mebibytes MiB in $keys keys; load: $rate writes/s"
echo "p99 of writes before: $(p99 "$work/before.json") ms; while the node joined: $(p99 "$work/during.json") ms"
echo "the learner held everything after $caught_up ms; it had a vote after $voter ms"
