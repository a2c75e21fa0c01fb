#!/usr/bin/env bash
# The long runs, once before an issue that asks for them is closed. Each leaves its runs as JSON in
# the folder long-run/.
#
#   scripts/long-run.sh swarm       1,000 swarm seeds
#   scripts/long-run.sh scenarios   every named scenario with 50 seeds
#   scripts/long-run.sh plants      every planted bug, until it is caught, at most 50 seeds
#   scripts/long-run.sh recovery    times to recover per kind of fault, as a page
#   scripts/long-run.sh jitter      a simulated day of 30 % jitter without an election
#   scripts/long-run.sh maintenance 24 simulated hours of restarts, transfers, compactions and
#                                   changes of members
#   scripts/long-run.sh load        an hour of real processes under full load without an election
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
out=long-run
mkdir -p "$out"
if [ "${1:-}" != load ]; then cargo build --release --locked -p mainstay-chaos; fi
target=${CARGO_TARGET_DIR:-target}
chaos=$target/release/chaos

case "${1:-}" in
    swarm)
        "$chaos" run --scenario swarm --seeds 1..1000 --jobs "$jobs" --json "$out/swarm.json"
        ;;
    scenarios)
        "$chaos" run --scenario all --seeds 1..50 --jobs "$jobs" --json "$out/scenarios.json"
        ;;
    plants)
        cargo test --release --locked -p mainstay-chaos --test plants -- --nocapture
        ;;
    recovery)
        "$chaos" run --scenario all --seeds 1..30 --report "$out/recovery" --json "$out/recovery.json"
        ;;
    jitter)
        # Twenty times 72 minutes.
        "$chaos" run --scenario jitter-for-an-hour --seeds 1..20 --jobs "$jobs" \
            --json "$out/jitter.json"
        ;;
    maintenance)
        "$chaos" run --scenario maintenance-for-an-hour --seeds 1..20 --jobs "$jobs" \
            --json "$out/maintenance.json"
        ;;
    load)
        scripts/full-load.sh --seconds 3600 --keep-logs "$out/load"
        ;;
    *)
        echo "which long run? there are swarm, scenarios, plants, recovery, jitter, maintenance, load" >&2
        exit 2
        ;;
esac
