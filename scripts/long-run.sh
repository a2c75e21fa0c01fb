#!/usr/bin/env bash
# The long runs, once before an issue that asks for them is closed. Each leaves its runs as JSON in
# the folder long-run/.
#
#   scripts/long-run.sh swarm       1,000 swarm seeds
#   scripts/long-run.sh scenarios   every named scenario with 50 seeds
#   scripts/long-run.sh plants      every planted bug, until it is caught, at most 50 seeds
#   scripts/long-run.sh recovery    times to recover per kind of fault, as a page
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
out=long-run
mkdir -p "$out"
cargo build --release --locked -p mainstay-chaos
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
    *)
        echo "which long run? there are swarm, scenarios, plants and recovery" >&2
        exit 2
        ;;
esac
