#!/usr/bin/env bash
# Measures what a rolling restart of all nodes costs programs that use the Rust client.
#
#   scripts/bench-rolling-restart.sh [--rounds N] [--rate PER-SECOND] [--binary MAINSTAY] [--keep-logs FOLDER]
#
# Three real nodes on loopback with default flags and data in a temporary folder. The client writes
# new keys at a steady rate (500 a second unless told otherwise) through 16 sessions; meanwhile each
# node is told to stop (SIGTERM), started again and waited for, the leader first, --rounds times.
# Then every acknowledged write is looked for. Printed: failed requests, lost writes, writes that
# took effect twice, and latencies from when a request was due. Without --binary the shipped
# profile is built first. Everything that this script starts it ends, by process id.

set -euo pipefail

rounds=3
rate=500
mainstay=""
keep_logs=""

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --rounds) rounds="${2:?--rounds needs a number}"; shift 2 ;;
    --rate) rate="${2:?--rate needs a number}"; shift 2 ;;
    --binary) mainstay="$(realpath "${2:?--binary needs a file}")"; shift 2 ;;
    --keep-logs) keep_logs="$(realpath -m "${2:?--keep-logs needs a folder}")"; shift 2 ;;
    *) usage ;;
  esac
done

cd "$(dirname "$0")/.."
# shellcheck source=scripts/measuring.sh
source scripts/measuring.sh
logs="$keep_logs"
trap clean_up EXIT
trap 'exit 130' INT TERM
MAINSTAY_PORT=25890
endpoints="$(mainstay_endpoints)"

settle() { # until every node serves writes
  for _ in $(seq 600); do
    if "$mainstay" health --endpoints "$endpoints" >/dev/null 2>&1; then
      sleep 1 # and what was written meanwhile is copied
      return
    fi
    sleep 0.1
  done
  echo "the cluster does not come back; see the logs with --keep-logs" >&2
  exit 1
}

# ---- main ---------------------------------------------------------------------------------------

build_mainstay
for n in 0 1 2; do start_mainstay_node "$n" "$work"; done
"$mainstay" bench --endpoints "$endpoints" --mode first-write >/dev/null
settle

# The load runs until the restarts are done, and then tells.
"$mainstay" bench --endpoints "$endpoints" --mode checked --clients 16 --rate "$rate" \
  --seconds 86400 --output json >"$work/load.json" 2>"$work/load.log" &
load=$!
running[$load]=1
sleep 3

for round in $(seq "$rounds"); do
  first="$(mainstay_leader)"
  for step in 0 1 2; do
    at=$(((first + step) % 3))
    began="$(date +%s%N)"
    end_process "${mainstay_pids[$at]}"
    stopped="$(date +%s%N)"
    start_mainstay_node "$at" "$work"
    settle
    printf '  round %d: m%d stopped in %4d ms, back after %4d ms\n' "$round" "$at" \
      $(((stopped - began) / 1000000)) $((($(date +%s%N) - began) / 1000000)) >&2
  done
done

kill -INT "$load"
wait "$load" || true
unset "running[$load]"
if [[ ! -s "$work/load.json" ]]; then
  echo "the load gave no report:" >&2
  cat "$work/load.log" >&2
  exit 1
fi

json="$(cat "$work/load.json")"
printf '\n%s; %s cores, Linux %s, %s; %s rolling restarts of three nodes under %s writes/s\n' \
  "$("$mainstay" --version)" "$(nproc)" "$(uname -r)" "$(date -u +%F)" "$rounds" "$rate"
row() { printf '%-44s %12s   %s\n' "$1" "$(field "$2" <<<"$json")" "$3"; }
printf '%-44s %12s   %s\n' "" measured wanted
row "requests" operations ""
row "failed requests" failed 0
row "acknowledged writes that are lost" lost 0
row "writes that took effect twice" took_effect_twice 0
row "p50 of a write, ms" p50 ""
row "p99 of a write, ms" p99 "< 500"
row "p99.9 of a write, ms" p99_9 ""
row "longest write, ms" max ""
errors="$(sed -n 's/.*"errors":{\([^}]*\)}.*/\1/p' <<<"$json")"
if [[ -n "$errors" ]]; then echo "failures: $errors"; fi
