#!/usr/bin/env bash
# Measures how long writes stop when the leader is killed, frozen or handed over, and prints a table.
#
#   scripts/bench-failover.sh [--rounds N] [--only SECTIONS] [--binary MAINSTAY] [--keep-logs FOLDER]
#
# Three real nodes on loopback with default flags and data in a temporary folder. One client that
# knows all endpoints writes all the while and gives each attempt 100 ms. SECTIONS are words of
# "kill transfer freeze" (all unless given). Without --binary the shipped profile is built first.
# Everything that this script starts it ends, by process id.

set -euo pipefail

rounds=20
sections="kill transfer freeze"
mainstay=""
logs=""

usage() {
  sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --rounds) rounds="${2:?--rounds needs a number}"; shift 2 ;;
    --only) sections="${2:?--only needs words}"; shift 2 ;;
    --binary) mainstay="$(realpath "${2:?--binary needs a file}")"; shift 2 ;;
    --keep-logs) logs="$(realpath -m "${2:?--keep-logs needs a folder}")"; shift 2 ;;
    *) usage ;;
  esac
done

cd "$(dirname "$0")/.."
work="$(mktemp -d)"
declare -A running=() # process id -> 1, of everything that was started and not yet ended
declare -a pids=()

# ---- processes ----------------------------------------------------------------------------------

end_process() { # PID [SIGNAL]
  kill "-${2:-TERM}" "$1" 2>/dev/null || true
  for _ in $(seq 200); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$1" 2>/dev/null || true
  unset "running[$1]"
}

clean_up() {
  local pid
  for pid in "${!running[@]}"; do end_process "$pid" KILL; done
  if [[ -n "$logs" ]]; then
    mkdir -p "$logs"
    cp "$work"/*.log "$logs" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

port() { echo $((25790 + $1 * 10)); } # of node N (0 to 2) for clients; peers one above
endpoints="127.0.0.1:$(port 0),127.0.0.1:$(port 1),127.0.0.1:$(port 2)"

start_node() { # N
  local n cluster=""
  for n in 0 1 2; do cluster+="${cluster:+,}m$n=127.0.0.1:$(($(port "$n") + 1))"; done
  "$mainstay" serve --name "m$1" --data-dir "$work/m$1" --client-addr "127.0.0.1:$(port "$1")" \
    --peer-addr "127.0.0.1:$(($(port "$1") + 1))" --bootstrap "$cluster" >>"$work/m$1.log" 2>&1 &
  pids[$1]=$!
  running[$!]=1
  disown "$!" # or the shell tells of each that is killed
}

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

leader() { # the place of the leader, from 0
  "$mainstay" status --endpoints "$endpoints" |
    awk '/ leader m/ { sub(/.* leader m/, ""); print; exit }'
}

# ---- numbers ------------------------------------------------------------------------------------

field() { # NAME of a number in one line of JSON on standard input
  sed -n "s/.*\"$1\":\([0-9.eE+-]*\).*/\1/p"
}

median() { sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
worst() { sort -g | tail -1; }

note() { # SECTION MILLISECONDS
  echo "$2" >>"$work/$1"
  printf '  %-8s round %2d: %8.1f ms\n' "$1" "$(wc -l <"$work/$1")" "$2" >&2
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
    at="$(leader)"
    note kill "$(bench failover --kill-pid "${pids[$at]}" | field failover_ms)"
    unset "running[${pids[$at]}]"
    start_node "$at"
  done
  settle
  causes >"$work/kill.causes"
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
    at="$(leader)"
    note freeze "$(bench freeze --stop-pid "${pids[$at]}" | field longest_gap_ms)"
  done
  causes >"$work/freeze.causes"
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
  if [[ -e "$work/transfer.others" ]]; then
    echo "another node than the wanted one won $(wc -l <"$work/transfer.others") transfers"
  fi
}

# ---- main ---------------------------------------------------------------------------------------

for section in $sections; do
  case "$section" in
    kill | transfer | freeze) ;;
    *) usage ;;
  esac
done
if [[ -z "$mainstay" ]]; then
  echo "building" >&2
  cargo build --quiet --locked --profile dist -p mainstay-cli --bin mainstay
  mainstay="$(realpath "${CARGO_TARGET_DIR:-target}/dist/mainstay")"
fi
for n in 0 1 2; do start_node "$n"; done
bench first-write >/dev/null
for section in $sections; do
  echo "$section" >&2
  case "$section" in
    kill) kill_leader ;;
    *) "$section" ;;
  esac
done
table
