# What the measuring scripts share: the processes that they started, three nodes, and figures.
#
# To be sourced by bash. It starts nothing by itself; whoever sources it sets `mainstay` to the
# program and ends with `trap clean_up EXIT`.

# shellcheck shell=bash

work="$(mktemp -d)"
declare -A running=() # process id -> 1, of everything that was started and not yet ended
logs=""               # a folder that keeps the logs, if one is wanted

# ---- processes ----------------------------------------------------------------------------------

end_process() { # PID [SIGNAL]: waits for 40 s, more than a node takes to finish what runs
  kill "-${2:-TERM}" "$1" 2>/dev/null || true
  for _ in $(seq 800); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
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

# ---- three nodes of mainstay, m0 to m2 ----------------------------------------------------------

declare -a mainstay_pids=() # by place, from 0

# Of node N (0 to 2) for clients; peers one above. MAINSTAY_PORT is the first.
mainstay_port() { echo $((MAINSTAY_PORT + $1 * 10)); }

mainstay_endpoints() {
  echo "127.0.0.1:$(mainstay_port 0),127.0.0.1:$(mainstay_port 1),127.0.0.1:$(mainstay_port 2)"
}

start_mainstay_node() { # N FOLDER [PROGRAM]: data and log in FOLDER
  local n port cluster=""
  port="$(mainstay_port "$1")"
  for n in 0 1 2; do cluster+="${cluster:+,}m$n=127.0.0.1:$(($(mainstay_port "$n") + 1))"; done
  "${3:-$mainstay}" serve --name "m$1" --data-dir "$2/m$1" --client-addr "127.0.0.1:$port" \
    --peer-addr "127.0.0.1:$((port + 1))" --bootstrap "$cluster" >>"$2/m$1.log" 2>&1 &
  mainstay_pids[$1]=$!
  running[$!]=1
  disown "$!" # or the shell tells of each that is killed
}

build_mainstay() { # unless `mainstay` is given: what is shipped
  [[ -z "$mainstay" ]] || return 0
  echo "building" >&2
  cargo build --quiet --locked --profile dist -p mainstay-cli --bin mainstay
  mainstay="$(realpath "${CARGO_TARGET_DIR:-target}/dist/mainstay")"
}

mainstay_revision() { # nothing while no node can tell
  "$mainstay" status --endpoints "$(mainstay_endpoints)" 2>/dev/null |
    sed -n 's/^cluster .* revision \([0-9]*\) .*$/\1/p'
}

mainstay_resident_mib() { # of the largest node
  local pid
  for pid in "${mainstay_pids[@]}"; do awk '/VmRSS/ { print $2 }' "/proc/$pid/status"; done |
    awk '{ if ($1 > most) most = $1 } END { printf "%.0f", most / 1024 }'
}

mainstay_leader() { # its place, from 0
  "$mainstay" status --endpoints "$(mainstay_endpoints)" |
    awk '/ leader m/ { sub(/.* leader m/, ""); print; exit }'
}

# ---- figures ------------------------------------------------------------------------------------

field() { # NAME of a number in one line of JSON on standard input
  sed -n "s/.*\"$1\":\([0-9.eE+-]*\).*/\1/p"
}

median() { sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
worst() { sort -g | tail -1; }
