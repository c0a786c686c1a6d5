#!/usr/bin/env bash
# Produces RATE for SECONDS to partitions that somebody has just read, so that every byte goes through the page cache, and more of them than it may
# hold unwritten: are acknowledgements as quick at the end as at the beginning? The result goes to OUT.
# usage: benches/ten-minutes.sh [RATE] [SECONDS] [OUT] [FOLDER]    needs target/release/headwater, python3, taskset
set -euo pipefail
cd "$(dirname "$0")/.."
rate=${1:-100MB} seconds=${2:-600} out=${3:-bench-results}
data=$(mktemp -d "${4:-/var/tmp}/headwater-ten-minutes-XXXXXX")
server=
end() {
    if [ -n "$server" ]; then kill "$server" && wait "$server" || true; fi
    rm -rf "$data" "$data.log"
}
trap end EXIT
port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
kafka=127.0.0.1:$(port)
taskset -c 0 target/release/headwater serve --data-dir "$data" --kafka "$kafka" --admin "127.0.0.1:$(port)" --aws "127.0.0.1:$(port)" 2>"$data.log" &
server=$!
sleep 1
load() { taskset -c 1 target/release/headwater bench "$@" --broker "$kafka" --pid "$server" --topic long --quiet; }
load produce --partitions 4 --megabytes 100 --topic-config retention.bytes=2147483648 --topic-config segment.bytes=268435456 >/dev/null
load consume >/dev/null
load produce --rate "$rate" --duration "$seconds" --durability fsync --out "$out" --name ten-minutes
grep -E '^(Dirty|Writeback):' /proc/meminfo
