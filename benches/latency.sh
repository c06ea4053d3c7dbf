#!/usr/bin/env bash
# One connection over a long line: messages a second through a world with 50 ms each way, to a server
# with PIPELINING alone and to one with CHUNKING; 10 KB messages. Needs python3.
#
#   benches/latency.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
postroad=$PWD/target/release/postroad
work=$(mktemp -d)
world_pid=''
trap '[ -z "$world_pid" ] || kill "$world_pid"; rm -rf "$work"' EXIT
cd "$work"
mkdir campaign
python3 -c 'print("Hello {{ name }},\n" + "\n".join("a line of some sixty characters, as people would write it: %04d" % n for n in range(160)))' \
    >campaign/message.txt
cat >campaign/campaign.toml <<'TOML'
name = "latency"
from = "news@sender.test"
return_path_domain = "sender.test"
subject = "Hello {{ name }}"
text = "message.txt"
[list]
file = "recipients.csv"
TOML

line() { # NAME EXTENSIONS MESSAGES
    cat >world.toml <<TOML
[[provider]]
name = "far"
domains = ["far.test"]
extensions = [$2]
latency = "50ms"
[[provider.mx]]
host = "mx.far.test"
TOML
    "$postroad" world world.toml --port 5355 >world.log 2>&1 &
    world_pid=$!
    for _ in $(seq 200); do grep -q . world.log && break; sleep 0.05; done
    cat >postroad.toml <<'TOML'
state = "state"
smtp_port = 5355
[dns]
servers = ["127.0.0.1:5355"]
[shaping.default]
sessions = 1
messages = "unlimited"
messages_per_session = 1000000
TOML
    python3 -c "print('email,name'); [print(f'u{n}@far.test,Pat {n}') for n in range($3)]" >campaign/recipients.csv
    rm -rf state
    "$postroad" --json run --no-check campaign >run.log
    python3 - "$1" <<'PYTHON'
import glob, json, sys
report = json.load(open(glob.glob("state/runs/*/report.json")[0]))
assert report["totals"]["waiting"] == 0 and report["totals"]["delivered"] == report["totals"]["rows"], report
print(f"{sys.argv[1]:<12} {report['messages_per_second']:7.1f} messages/s over one connection, 100 ms round trip")
PYTHON
    kill "$world_pid"
    wait "$world_pid" 2>/dev/null || true
    world_pid=''
}

line pipelining '"pipelining"' 200
line chunking '"pipelining", "chunking"' 4000
