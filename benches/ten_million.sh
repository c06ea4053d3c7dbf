#!/usr/bin/env bash
# A list of ten million rows: when the first message leaves, how fast the list is read, and the peak
# memory while both go on. The run is stopped politely once the whole list is in the spool.
# Needs smtp-sink (Debian: postfix), python3 and about 2 GB of disk.
#
#   benches/ten_million.sh [ROWS]
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${1:-10000000}
sink=$(PATH=$PATH:/usr/sbin command -v smtp-sink) || { echo "skipped: smtp-sink"; exit 0; }
cargo build --release --quiet
postroad=$PWD/target/release/postroad
work=$(mktemp -d)
sink_pid='' world_pid=''
trap '[ -z "$sink_pid" ] || kill "$sink_pid"; [ -z "$world_pid" ] || kill "$world_pid"; rm -rf "$work"' EXIT
cd "$work"
"$sink" -u "$(id -un)" 127.0.0.1:2526 1024 >sink.log 2>&1 &
sink_pid=$!
cat >world.toml <<'TOML'
[[provider]]
name = "bulk"
generate = { count = 1000, pattern = "d{n}.bulk.test", operators = 10 }
extensions = []
[[provider.mx]]
host = "mx{o}.bulk.test"
served_at = "127.0.0.1"
TOML
"$postroad" world world.toml --port 5356 >world.log 2>&1 &
world_pid=$!
mkdir campaign
printf 'Hello {{ name }},\n\nyour number is {{ id }}.\n' >campaign/message.txt
cat >campaign/campaign.toml <<'TOML'
name = "millions"
from = "news@sender.test"
return_path_domain = "sender.test"
subject = "Hello {{ name }}"
text = "message.txt"
[list]
file = "recipients.csv"
TOML
cat >postroad.toml <<'TOML'
state = "state"
smtp_port = 2526
[dns]
servers = ["127.0.0.1:5356"]
[shaping.default]
messages = "unlimited"
connections = "unlimited"
messages_per_session = 1000000
TOML
python3 - "$postroad" "$rows" <<'PYTHON'
import json, resource, signal, subprocess, sys, time
postroad, rows = sys.argv[1], int(sys.argv[2])
with open("campaign/recipients.csv", "w") as out:
    out.write("email,name,id\n")
    for n in range(rows):
        out.write(f"user{n}@d{n % 1000 + 1}.bulk.test,Pat Recipient{n},r{n}\n")
began = time.monotonic()
run = subprocess.Popen([postroad, "--json", "run", "--no-check", "campaign"], stdout=subprocess.PIPE, text=True)
first = read = None
for line in run.stdout:
    now = time.monotonic() - began
    progress = json.loads(line).get("progress") or json.loads(line)
    totals = progress.get("totals")
    if not totals or "import_done" not in progress:
        continue
    if first is None and totals["delivered"] > 0:
        first = now
        print(f"first messages delivered by {first:.1f} s (looked at once a second)", flush=True)
    if read is None and progress["import_done"]:
        read = now
        print(f"{totals['rows']:,} rows read after {read:.1f} s: {totals['rows'] / read:,.0f} rows/s "
              f"while {totals['delivered']:,} were delivered", flush=True)
        run.send_signal(signal.SIGTERM)
code = run.wait()
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"peak memory {peak:.0f} MiB, exit code {code}")
PYTHON
