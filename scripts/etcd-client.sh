#!/usr/bin/env bash
# Runs cargo in tests/etcd-client, where the crate `etcd-client` is used against real processes.
#
#   scripts/etcd-client.sh test [FILTER]
#   scripts/etcd-client.sh clippy --all-targets -- -D warnings
#
# The build of that crate calls `protoc`; nobody has to install one, because tests/etcd-client/protoc
# answers the call and is built first. The program under test is the one that MAINSTAY names, or the
# one of this workspace, built for it. Everything is built below the target folder.

set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
[[ "$target" == /* ]] || target="$PWD/$target"
command="${1:?a command of cargo is missing: test}"
shift

if [[ "$command" == test && -z "${MAINSTAY:-}" ]]; then
  cargo build --workspace --bin mainstay --locked
  export MAINSTAY="$target/debug/mainstay"
fi
export CARGO_TARGET_DIR="$target/etcd-client"
manifest=tests/etcd-client/Cargo.toml
cargo build --manifest-path "$manifest" --package mainstay-protoc --locked
PROTOC="$CARGO_TARGET_DIR/debug/protoc" \
  cargo "$command" --manifest-path "$manifest" --workspace --locked "$@"
