#!/usr/bin/env bash
# Replays MEGABYTES over 1, 100 and 1,000 partitions, warm and cold, by offset and by time, by 1 and 50 consumers, beside
# the bare sending of the same files (raw.py). The server runs on CPU 0, the reader on CPU 1. Readers ask for up to 16 MiB. Before
# what is cold there is a rest of REST seconds (20): many virtual disks give a burst first and less when it is used up.
# usage: benches/replay-at-scale.sh [MEGABYTES] [FOLDER]    needs target/release/headwater, python3, taskset
set -euo pipefail
cd "$(dirname "$0")/.."
megabytes=${1:-10000}
data=$(mktemp -d "${2:-/var/tmp}/headwater-replay-XXXXXX")
server=
end() {
    if [ -n "$server" ]; then kill "$server" && wait "$server" || true; fi
    rm -rf "$data" "$data.log"
}
trap end EXIT
port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
for partitions in 1 100 1000; do
    # Where the disk is mounted with `discard`, freeing keeps it busy for a while.
    [ -z "$(ls -A "$data")" ] || { rm -rf "${data:?}"/* && sleep 10; }
    kafka=127.0.0.1:$(port)
    taskset -c 0 target/release/headwater serve --data-dir "$data" --kafka "$kafka" --admin "127.0.0.1:$(port)" --aws "127.0.0.1:$(port)" 2>"$data.log" &
    server=$!
    replay() {
        local what=$1
        shift
        taskset -c 1 target/release/headwater bench replay --broker "$kafka" --pid "$server" --topic replayed --partitions "$partitions" --megabytes "$megabytes" --fetch-bytes 16777216 --partition-bytes 16777216 "$@" --quiet |
            awk -F'|' -v what="$what" '/^\| replay/ { gsub(/ /, ""); printf "%s: %s MB/s, %s CPU s/GB\n", what, $5, $12 }'
    }
    sleep 1
    echo "== $partitions partitions"
    replay "first read, after it was filled"
    for consumers in 1 50; do
        if [ "$partitions" = 1 ] && [ "$consumers" != 1 ]; then continue; fi
        replay "warm, $consumers by offset" --consumers "$consumers"
        replay "warm, $consumers by time" --consumers "$consumers" --by-time
        # The bare sending's reader looks at nothing.
        replay "warm, $consumers by offset, unchecked" --consumers "$consumers" --unchecked
        replay "warm, $consumers by time, unchecked" --consumers "$consumers" --by-time --unchecked
        python3 benches/raw.py "$data/segments" warm
        sleep "${REST:-20}"
        replay "cold, $consumers by offset" --consumers "$consumers" --drop-cache "$data"
        sleep "${REST:-20}"
        replay "cold, $consumers by time" --consumers "$consumers" --by-time --drop-cache "$data"
        sleep "${REST:-20}"
        python3 benches/raw.py "$data/segments" cold
    done
    kill "$server"
    wait "$server" || true
    server=
done
