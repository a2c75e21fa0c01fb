#!/usr/bin/env bash
# Keeps three real nodes under full load on two cores and demands that nobody loses the title.
#
#   scripts/full-load.sh [--seconds N] [--binary MAINSTAY] [--keep-logs FOLDER]
#
# 256 clients write 256 B values as fast as they are answered; load and nodes share two cores. Old
# revisions are compacted every five seconds, so that the store does not grow. A line is printed for
# each minute, a verdict at the end; the exit code is 1 when there was an election or nothing was
# written. An hour unless --seconds says otherwise. Everything that this script starts it ends, by
# process id.

set -euo pipefail

seconds=3600
mainstay=""
keep_logs=""

usage() {
  sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

while (($#)); do
  case "$1" in
    --seconds) seconds="${2:?--seconds needs a number}"; shift 2 ;;
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
MAINSTAY_PORT=26790
endpoints="$(mainstay_endpoints)"

build_mainstay

# On a larger machine nodes and load still get two cores.
if (($(nproc) > 2)); then taskset -cp 0,1 $$ >/dev/null; fi

title() { # "TERM LEADER", or nothing while a node cannot tell
  "$mainstay" status --endpoints "$endpoints" 2>/dev/null |
    sed -n 's/^cluster .* term \([0-9]*\) .* leader \(.*\)$/\1 \2/p'
}

compact() { # everything up to now; one that comes too late or gets no answer is made up by the next
  local now
  now="$(mainstay_revision)" || return 0
  [[ -z "$now" ]] || "$mainstay" compact "$now" --endpoints "$endpoints" >/dev/null 2>&1 || true
}

for n in 0 1 2; do start_mainstay_node "$n" "$work"; done
"$mainstay" bench --endpoints "$endpoints" --output json --clients 1 --mode first-write >/dev/null
sleep 3 # a birth may take more than one vote
before="$(title)"
if [[ -z "$before" ]]; then
  echo "the nodes do not say who leads" >&2
  exit 1
fi
begun_at=$SECONDS
echo "term and leader: $before; $seconds s of full load, $(nproc) cores"
(
  # Until the last moment without a pause: one load, not one for each minute.
  "$mainstay" bench --endpoints "$endpoints" --output json --mode put --clients 256 \
    --value-size 256 --keys 100000 --seconds "$seconds" >"$work/load.json"
) &
load=$!
running[$load]=1

minute=1
last_revision="$(mainstay_revision)"
while kill -0 "$load" 2>/dev/null; do
  sleep 5
  compact
  if ((SECONDS - begun_at >= minute * 60)); then
    now_revision="$(mainstay_revision)"
    printf 'minute %3d: term and leader %s, revision %s (%s in this minute), largest node %s MiB\n' \
      "$minute" "$(title)" "$now_revision" "$((${now_revision:-0} - ${last_revision:-0}))" \
      "$(mainstay_resident_mib)"
    last_revision="$now_revision"
    minute=$((minute + 1))
  fi
done
wait "$load" || true
unset "running[$load]"

after=""
for _ in $(seq 50); do
  after="$(title)"
  [[ -z "$after" ]] || break
  sleep 0.2
done
written="$(field operations <"$work/load.json")"
echo "written $written at $(field throughput <"$work/load.json")/s, p99 $(field p99 <"$work/load.json") ms, failed $(field failed <"$work/load.json")"
if [[ "$before" != "$after" ]]; then
  echo "FAILED: term and leader were $before and are $after:"
  "$mainstay" detector --endpoints "$endpoints" --limit 20 | grep '^election' || true
  exit 1
fi
if [[ -z "$written" || "$written" == 0 ]]; then
  echo "FAILED: nothing was written"
  exit 1
fi
echo "no election in $((SECONDS - begun_at)) s"
