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
logs=""

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --rounds) rounds="${2:?--rounds needs a number}"; shift 2 ;;
    --rate) rate="${2:?--rate needs a number}"; shift 2 ;;
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
  for _ in $(seq 800); do
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

port() { echo $((25890 + $1 * 10)); } # of node N (0 to 2) for clients; peers one above
endpoints="127.0.0.1:$(port 0),127.0.0.1:$(port 1),127.0.0.1:$(port 2)"

start_node() { # N
  local n cluster=""
  for n in 0 1 2; do cluster+="${cluster:+,}m$n=127.0.0.1:$(($(port "$n") + 1))"; done
  "$mainstay" serve --name "m$1" --data-dir "$work/m$1" --client-addr "127.0.0.1:$(port "$1")" \
    --peer-addr "127.0.0.1:$(($(port "$1") + 1))" --bootstrap "$cluster" >>"$work/m$1.log" 2>&1 &
  pids[$1]=$!
  running[$!]=1
  disown "$!"
}

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

leader() { # the place of the leader, from 0
  "$mainstay" status --endpoints "$endpoints" |
    awk '/ leader m/ { sub(/.* leader m/, ""); print; exit }'
}

field() { # NAME of a number in one line of JSON on standard input
  sed -n "s/.*\"$1\":\([0-9.eE+-]*\).*/\1/p"
}

# ---- main ---------------------------------------------------------------------------------------

if [[ -z "$mainstay" ]]; then
  echo "building" >&2
  cargo build --quiet --locked --profile dist -p mainstay-cli --bin mainstay
  mainstay="$(realpath "${CARGO_TARGET_DIR:-target}/dist/mainstay")"
fi
for n in 0 1 2; do start_node "$n"; done
"$mainstay" bench --endpoints "$endpoints" --mode first-write >/dev/null
settle

# The load runs until the restarts are done, and then tells.
"$mainstay" bench --endpoints "$endpoints" --mode checked --clients 16 --rate "$rate" \
  --seconds 86400 --output json >"$work/load.json" 2>"$work/load.log" &
load=$!
running[$load]=1
sleep 3

for round in $(seq "$rounds"); do
  first="$(leader)"
  for step in 0 1 2; do
    at=$(((first + step) % 3))
    began="$(date +%s%N)"
    end_process "${pids[$at]}"
    stopped="$(date +%s%N)"
    start_node "$at"
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
