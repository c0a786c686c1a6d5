#!/usr/bin/env bash
# Replays 1 GB out of a new server, beside what bounds it: reading the segment files, a bare fetch, writing a file.
#
#   replay.sh [ROUNDS]     (default 5) prints median, least and most of seconds and of CPU seconds, own and the server's
#
# Needs target/release/headwater. Files lie under target/replay and are deleted at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds="${1:-5}" work=target/replay headwater=target/release/headwater
out="$work/out" port="${PORT:-29750}"
export HEADWATER_BOOTSTRAP="127.0.0.1:$port"

rm -rf "$work" && mkdir -p "$work"
"$headwater" serve --data-dir "$work/data" --kafka "$HEADWATER_BOOTSTRAP" --admin "127.0.0.1:$((port + 1))" \
  --aws "127.0.0.1:$((port + 2))" > "$work/server.log" 2>&1 &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$work"' EXIT
until grep -q '^ready' "$work/server.log"; do sleep 0.1; done
"$headwater" bench produce --topic big --megabytes 1000 > "$work/produced" 2>&1
segments=$(find "$work/data/segments" -name '*.log' -size +1M)
first=$("$headwater" replay big:0 --to 1 --format json -q | sed 's/.*"timestamp":\([0-9]*\).*/\1/')

zeros="dd if=/dev/zero of=$out bs=64k count=15407 status=none"

server_cpu() { awk -v tick="$(getconf CLK_TCK)" '{print ($14 + $15) / tick}' "/proc/$server/stat"; }

measure() { # measure NAME COMMAND: one line of name, seconds, own CPU seconds, the server's
  local name="$1" before after
  rm -f "$out"
  before=$(server_cpu)
  TIMEFORMAT='%R %U %S'
  { time bash -c "$2" > /dev/null 2>&1; } 2> "$work/time"
  after=$(server_cpu)
  echo "$name $(awk -v before="$before" -v after="$after" '{print $1, $2 + $3, after - before}' "$work/time")" >> "$work/lines"
}

for _ in $(seq "$rounds"); do
  measure cat-of-the-segments "cat $(echo $segments)"
  measure bare-fetch "$headwater bench consume --topic big -q"
  measure replay "$headwater replay big -q"
  measure replay-by-time "$headwater replay big -q --from @$first --to 2090-01-01"
  measure replay-key-value "$headwater replay big -q --format key-value"
  measure replay-json "$headwater replay big -q --format json"
  measure replay-to-a-pipe "$headwater replay big -q | cat"
  for what in "zeros-to-a-file $zeros" "replay-to-a-file $headwater replay big -q -o $out"; do
    # A file that is deleted leaves memory for the next one: without it, the first pays for making room in the page cache.
    rm -f "$out" && $zeros && measure ${what%% *} "${what#* }"
  done
done

echo "| what | seconds | own CPU s | server CPU s |"
echo "| --- | --- | --- | --- |"
for name in $(awk '!seen[$1]++ {print $1}' "$work/lines"); do
  echo -n "| $name |"
  for column in 2 3 4; do
    awk -v name="$name" -v column="$column" '$1 == name {print $column}' "$work/lines" | sort -n |
      awk '{v[NR] = $1} END {printf " %.2f (%.2f-%.2f) |", v[int((NR + 1) / 2)], v[1], v[NR]}'
  done
  echo
done
