#!/usr/bin/env bash
# Measures how long writes stop when the leader is killed, frozen or handed over, or its disk hangs,
# and prints a table.
#
#   scripts/bench-failover.sh [--rounds N] [--only SECTIONS] [--binary MAINSTAY STALLING]
#                             [--keep-logs FOLDER]
#
# Three real nodes on loopback with default flags and data in a temporary folder. One client that
# knows all endpoints writes all the while and gives each attempt 100 ms. SECTIONS are words of
# "kill transfer freeze stall" (all unless given). Without --binary the shipped profile is built
# first; the second program of --binary is mainstay-on-a-stalling-disk, for the section stall.
# Everything that this script starts it ends, by process id.

set -euo pipefail

rounds=20
sections="kill transfer freeze stall"
mainstay=""
stalling=""
keep_logs=""

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --rounds) rounds="${2:?--rounds needs a number}"; shift 2 ;;
    --only) sections="${2:?--only needs words}"; shift 2 ;;
    --binary)
      mainstay="$(realpath "${2:?--binary needs two files}")"
      stalling="$(realpath "${3:?--binary needs two files}")"
      shift 3
      ;;
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
MAINSTAY_PORT=25790
endpoints="$(mainstay_endpoints)"

bench() { "$mainstay" bench --endpoints "$endpoints" --output json --clients 1 --mode "$@"; }

settle() { # until every node serves writes, and the detectors know each other's rhythm
  for _ in $(seq 300); do
    if "$mainstay" health --endpoints "$endpoints" >/dev/null 2>&1; then
      sleep 3
      return
    fi
    sleep 0.1
  done
  echo "the cluster does not come back; see the logs with --keep-logs" >&2
  exit 1
}

# ---- numbers ------------------------------------------------------------------------------------

note() { # SECTION MILLISECONDS
  echo "$2" >>"$work/$1"
  printf '  %-8s round %2d: %8.1f ms\n' "$1" "$(wc -l <"$work/$1")" "$2" >&2
}

campaigns() { # SECTION: from the first campaign to the votes of a quorum, from the history
  "$mainstay" detector --endpoints "$endpoints" --limit "$rounds" |
    sed -n 's/^election\t.*\tphases_ms=[^+]*+\([0-9]*\)+\([0-9]*\)+.*/\1 \2/p' |
    awk '{ print $1 + $2 }' >"$work/$1.campaign"
}

causes() { # of the last elections, as a node that did not lead before them tells
  "$mainstay" detector --endpoints "$endpoints" --limit "$rounds" |
    sed -n 's/^election\t.*\tcause=\([a-z_]*\)\t.*/\1/p' | sort | uniq -c | sort -rn |
    awk '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $1, $2 } END { print "" }'
}

# ---- sections -----------------------------------------------------------------------------------

kill_leader() {
  local at
  for _ in $(seq "$rounds"); do
    settle
    at="$(mainstay_leader)"
    note kill "$(bench failover --kill-pid "${mainstay_pids[$at]}" | field failover_ms)"
    unset "running[${mainstay_pids[$at]}]"
    start_mainstay_node "$at" "$work"
  done
  settle
  causes >"$work/kill.causes"
  campaigns kill
}

transfer() {
  local json
  for _ in $(seq "$rounds"); do
    settle
    json="$(bench transfer)"
    note transfer "$(field longest_gap_ms <<<"$json")"
    field took_ms <<<"$json" >>"$work/transfer.took"
    if [[ "$json" == *'"as_wanted":false'* ]]; then echo 1 >>"$work/transfer.others"; fi
  done
  causes >"$work/transfer.causes"
}

freeze() {
  local at
  for _ in $(seq "$rounds"); do
    settle
    at="$(mainstay_leader)"
    note freeze "$(bench freeze --stop-pid "${mainstay_pids[$at]}" | field longest_gap_ms)"
  done
  causes >"$work/freeze.causes"
}

# The leader's disk hangs for 10 s and comes back. Nodes of their own, on a disk that obeys signals;
# the load knows of nothing and writes for some seconds more.
stall() {
  local at now n load
  for n in 0 1 2; do end_process "${mainstay_pids[$n]}"; done
  mkdir "$work/stall-nodes"
  for n in 0 1 2; do start_mainstay_node "$n" "$work/stall-nodes" "$stalling"; done
  bench first-write >/dev/null
  for _ in $(seq "$rounds"); do
    settle
    sleep 10 # whoever took over from one in trouble keeps the title for so long
    at="$(mainstay_leader)"
    bench gap --seconds 15 >"$work/stall.json" &
    load=$!
    running[$load]=1
    sleep 2
    kill -USR1 "${mainstay_pids[$at]}"
    sleep 10
    now="$(mainstay_leader)"
    kill -USR2 "${mainstay_pids[$at]}"
    wait "$load"
    unset "running[$load]"
    note stall "$(field longest_gap_ms <"$work/stall.json")"
    if [[ "$now" == "$at" ]]; then echo 1 >>"$work/stall.kept"; fi
    settle
    if [[ "$(mainstay_leader)" != "$now" ]]; then echo 1 >>"$work/stall.back"; fi
  done
  causes >"$work/stall.causes"
  campaigns stall
}

# ---- the table ----------------------------------------------------------------------------------

row() { # TITLE SECTION WANTED-MEDIAN WANTED-WORST
  [[ -e "$work/$2" ]] || return 0
  printf '%-52s %8.0f %8.0f   %-9s %-9s %s\n' "$1" "$(median <"$work/$2")" "$(worst <"$work/$2")" \
    "$3" "$4" "$(cat "$work/$2.causes" 2>/dev/null || true)"
}

table() {
  printf '\n%s; %s cores, Linux %s, %s; %s rounds each, milliseconds\n' "$("$mainstay" --version)" \
    "$(nproc)" "$(uname -r)" "$(date -u +%F)" "$rounds"
  printf '%-52s %8s %8s   %-9s %-9s %s\n' "" median worst "wanted" "" "elections by cause"
  row "kill -9 of the leader to the next acknowledged write" kill "<= 450" "<= 800"
  row "planned transfer, longest time without one" transfer "" "<= 50"
  row "  the transfer itself" transfer.took "" ""
  row "leader frozen and woken, longest time without one" freeze "" "<= 1000"
  row "leader's disk stalled for 10 s, longest without one" stall "" "<= 1500"
  row "campaign to leader, after a kill" kill.campaign "" "< 152"
  row "campaign to leader, after a stall" stall.campaign "" "< 152"
  if [[ -e "$work/stall.kept" ]]; then
    echo "a leader kept its title over its stall in $(wc -l <"$work/stall.kept") rounds"
  fi
  if [[ -e "$work/stall.back" ]]; then
    echo "leadership moved again after the stall in $(wc -l <"$work/stall.back") rounds"
  fi
  if [[ -e "$work/transfer.others" ]]; then
    echo "another node than the wanted one won $(wc -l <"$work/transfer.others") transfers"
  fi
}

# ---- main ---------------------------------------------------------------------------------------

for section in $sections; do
  case "$section" in
    kill | transfer | freeze | stall) ;;
    *) usage ;;
  esac
done
if [[ -z "$mainstay" ]]; then
  echo "building" >&2
  cargo build --quiet --locked --profile dist -p mainstay-cli -p mainstay-tests \
    --bin mainstay --bin mainstay-on-a-stalling-disk
  mainstay="$(realpath "${CARGO_TARGET_DIR:-target}/dist/mainstay")"
  stalling="$(realpath "${CARGO_TARGET_DIR:-target}/dist/mainstay-on-a-stalling-disk")"
fi
for n in 0 1 2; do start_mainstay_node "$n" "$work"; done
bench first-write >/dev/null
for section in $sections; do
  echo "$section" >&2
  case "$section" in
    kill) kill_leader ;;
    *) "$section" ;;
  esac
done
table
