#!/usr/bin/env bash
# Measures what a large store costs: whether snapshots, compaction and long reads hold up writes, and
# how long a node takes to come back.
#
#   scripts/bench-at-size.sh [--keys N] [--value-size BYTES] [--seconds N] [--binary MAINSTAY]
#
# Three nodes on loopback with data in a temporary folder hold the keys (1,000,000 of 16 B unless told
# otherwise). Then 1,000 puts a second are sent, whether answers come or not: first with nothing else
# going on, then while every node takes a snapshot, all old revisions are compacted and all keys are
# read, again and again. At last each node is killed and started again. Everything that this script
# starts it ends, by process id.

set -euo pipefail

keys=1000000
value_size=16
seconds=20
mainstay=""

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --keys) keys="${2:?--keys needs a number}"; shift 2 ;;
    --value-size) value_size="${2:?--value-size needs a number}"; shift 2 ;;
    --seconds) seconds="${2:?--seconds needs a number}"; shift 2 ;;
    --binary) mainstay="$(realpath "${2:?--binary needs a file}")"; shift 2 ;;
    *) usage ;;
  esac
done

cd "$(dirname "$0")/.."
# shellcheck source=scripts/measuring.sh
source scripts/measuring.sh
trap clean_up EXIT
trap 'exit 130' INT TERM
MAINSTAY_PORT=26890
endpoints="$(mainstay_endpoints)"

build_mainstay

now_ms() { echo $(($(date +%s%N) / 1000000)); }

ask() { # N METHOD PATH: the status line of one node's answer
  local line=""
  exec 3<>"/dev/tcp/127.0.0.1/$(mainstay_port "$1")" || return 1
  printf '%s %s HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n' "$2" "$3" >&3
  IFS= read -r line <&3 || true
  exec 3>&-
  echo "$line"
}

row() { # TITLE JSON
  printf '%-44s %9.1f %9.1f %9.1f %9.1f %8s\n' "$1" "$(field p50 <<<"$2")" "$(field p99 <<<"$2")" \
    "$(field p99_9 <<<"$2")" "$(field max <<<"$2")" "$(field failed <<<"$2")"
}

puts() { # a thousand a second
  "$mainstay" bench --endpoints "$endpoints" --output json --mode put --clients 64 --rate 1000 \
    --seconds "$seconds" --keys "$keys" --value-size "$value_size"
}

for n in 0 1 2; do start_mainstay_node "$n" "$work"; done
"$mainstay" put first write --endpoints "$endpoints" >/dev/null
begun="$(now_ms)"
"$mainstay" bench --endpoints "$endpoints" --output json --warm-up 0s --mode put --seconds 0 \
  --preload --keys "$keys" --value-size "$value_size" >/dev/null
echo "$keys keys of $value_size B were written in $(($(now_ms) - begun)) ms; the largest node takes" \
  "$(mainstay_resident_mib) MiB" >&2

alone="$(puts)"

# Hardship in rounds, until the puts are through.
rounds=0
touch "$work/hardship"
(
  while [[ -e "$work/hardship" ]]; do
    for n in 0 1 2; do ask "$n" POST /v1/cluster/snapshot >>"$work/snapshots" & done
    "$mainstay" compact "$(mainstay_revision)" --endpoints "$endpoints" >/dev/null
    "$mainstay" get --prefix bench/ --endpoints "$endpoints" | wc -l >>"$work/read"
    wait
  done
) &
hardship=$!
running[$hardship]=1
beside="$(puts)"
rm "$work/hardship"
wait "$hardship" || true
unset "running[$hardship]"
rounds="$(wc -l <"$work/read")"
taken="$(grep -c ' 200 ' "$work/snapshots" || true)"

printf '\n%s, %s keys of %s B\n' "$("$mainstay" --version)" "$keys" "$value_size"
printf '%-44s %9s %9s %9s %9s %8s\n' "1,000 puts a second, ms" p50 p99 p99.9 worst failed
row "nothing else going on" "$alone"
row "snapshots, compaction, all keys read" "$beside"
echo "  meanwhile: $rounds compactions and reads of all keys, $taken snapshots"
for n in 0 1 2; do
  end_process "${mainstay_pids[$n]}" KILL
  begun="$(now_ms)"
  start_mainstay_node "$n" "$work"
  until [[ "$(ask "$n" GET /readyz 2>/dev/null || true)" == *" 200 "* ]]; do
    (($(now_ms) - begun < 120000)) || { echo "m$n is not ready after two minutes" >&2; exit 1; }
    sleep 0.02
  done
  echo "m$n killed and started: ready after $(($(now_ms) - begun)) ms"
done
echo "the largest node takes $(mainstay_resident_mib) MiB"
