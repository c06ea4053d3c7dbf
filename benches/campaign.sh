#!/usr/bin/env bash
# The whole road, measured: a campaign of 10 KB messages (text and HTML, about 30 substitutions, one
# recipient each, 50 domains) from its list to Postfix's smtp-sink on loopback, with the default
# durability, unsigned (also with `adapt = false`, as "fixed") and signed, to one site, 50 and 5,000, over 50 sessions in all. Beside it, from the
# same run, what the machine could do at best. Needs smtp-sink (Debian: postfix), python3 and openssl.
#
#   benches/campaign.sh [MESSAGES] [SITES...]        default: 500000 messages; 1, 50 and 5000 sites
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-500000}
shift || true
sites=("$@")
[ ${#sites[@]} -gt 0 ] || sites=(1 50 5000)

sink=$(PATH=$PATH:/usr/sbin command -v smtp-sink) || { echo "skipped: smtp-sink"; exit 0; }
cargo build --release --quiet
ceiling=$(cargo bench --bench ceiling --no-run --message-format=json 2>/dev/null |
    python3 -c 'import json,sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["target"]["name"] == "ceiling"][0])')
postroad=$PWD/target/release/postroad

work=$(mktemp -d)
sink_pid='' world_pid=''
trap '[ -z "$sink_pid" ] || kill "$sink_pid"; [ -z "$world_pid" ] || kill "$world_pid"; rm -rf "$work"' EXIT
cd "$work"

sink_user=$(id -un)
"$sink" -u "$sink_user" -c -m 2000 127.0.0.1:2525 1024 >sink.log 2>&1 &
sink_pid=$!
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out dkim.pem 2>/dev/null ||
    openssl genrsa -out dkim.pem 2048 2>/dev/null

python3 - "$messages" <<'PYTHON'
import random, sys
messages = int(sys.argv[1])
random.seed(11)
words = ("garden autumn offer tool member order friday reply colour chance hamper shipped saving quick every "
         "with your this best from winter bulb seed spade glove").split()
def paragraph(count):
    lines, line = [], ""
    for _ in range(count):
        word = random.choice(words)
        if len(line) + len(word) > 72:
            lines.append(line)
            line = word
        else:
            line = (line + " " + word).strip()
    return "\n".join(lines + [line])
text = ["Hello {{ name }},", ""]
for _ in range(6):
    text += [paragraph(58), ""]
text += ["Dear {{ name }}, your reference is {{ id }}.", "Unsubscribe: https://lists.sender.test/u/{{ id }}", ""]
html = ["<!doctype html>", "<html><head><meta charset=\"utf-8\"><title>Autumn</title>",
        "<style>body{font-family:sans-serif;color:#222}td{padding:8px}</style></head><body>",
        "<table width=\"600\" align=\"center\"><tr><td>", "<h1>Hello {{ name }}</h1>"]
for n in range(17):
    html += ["<p style=\"margin:0 0 12px 0\">", paragraph(50), "</p>",
             "<p><a href=\"https://lists.sender.test/c/%d/{{ id }}\">Read more</a></p>" % n]
html += ["<p>Sent to {{ email }}. <a href=\"https://lists.sender.test/u/{{ id }}\">Unsubscribe</a></p>",
         "</td></tr></table></body></html>", ""]
open("message.txt", "w").write("\n".join(text))
open("message.html", "w").write("\n".join(html))
open("client.eml", "w").write("\r\n".join(["From: news@sender.test", "Subject: autumn", ""] + text + html)
                              .replace("{{ name }}", "Pat Recipient{{ id }}").replace("{{ email }}", "{{ id }}@d.test")
                              .replace("\r\n", "\n").replace("\n", "\r\n"))
PYTHON

list() { # DOMAINS
    python3 - "$messages" "$1" <<'PYTHON'
import sys
messages, domains = int(sys.argv[1]), int(sys.argv[2])
with open("recipients.csv", "w") as out:
    out.write("email,name,id\n")
    for n in range(messages):
        out.write(f"user{n}@d{n % domains + 1}.bulk.test,Pat Recipient{n},c1r{n}\n")
PYTHON
}

world() { # SITES
    [ -z "$world_pid" ] || { kill "$world_pid"; wait "$world_pid" 2>/dev/null || true; }
    local domains=$(($1 > 50 ? $1 : 50))
    cat >world.toml <<TOML
[[provider]]
name = "bulk"
generate = { count = $domains, pattern = "d{n}.bulk.test", operators = $1 }
extensions = []
[[provider.mx]]
host = "mx{o}.bulk.test"
served_at = "127.0.0.1"
TOML
    "$postroad" world world.toml --port 5354 >world.log 2>&1 &
    world_pid=$!
    for _ in $(seq 200); do grep -q . world.log && break; sleep 0.05; done
}

cpu_of() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$1/stat"; }

campaign() { # SITES KEY, with `fixed` for limits that no reply changes
    mkdir -p campaign
    cp message.txt message.html recipients.csv campaign/
    cat >campaign/campaign.toml <<TOML
name = "bench"
from = "Example Sender <news@sender.test>"
return_path_domain = "sender.test"
subject = "{{ name }}, our autumn offers"
text = "message.txt"
html = "message.html"
[list]
file = "recipients.csv"
[unsubscribe]
url = "https://lists.sender.test/u/{{ id }}"
mailto = "unsub@sender.test"
TOML
    if [ "$2" = signed ]; then
        printf '[[dkim]]\ndomain = "sender.test"\nselector = "s1"\nkey_file = "%s/dkim.pem"\n' "$work" >>campaign/campaign.toml
    fi
    cat >postroad.toml <<TOML
state = "$work/state"
smtp_port = 2525
sessions_total = 50
adapt = $([ "$2" = fixed ] && echo false || echo true)
[dns]
servers = ["127.0.0.1:5354"]
[shaping.default]
sessions = 50
messages = "unlimited"
connections = "unlimited"
messages_per_session = 1000000
TOML
    rm -rf state
    local sink_before sink_after
    sink_before=$(cpu_of "$sink_pid")
    python3 - "$postroad" "$1" "$2" "$messages" >figures.txt <<'PYTHON'
import glob, json, resource, subprocess, sys, time
postroad, sites, key, messages = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
began = time.monotonic()
subprocess.run([postroad, "--json", "run", "--no-check", "campaign"], check=True, stdout=subprocess.DEVNULL)
wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
report = json.load(open(glob.glob("state/runs/*/report.json")[0]))
assert report["totals"]["delivered"] == messages, report["totals"]
spool = sum(__import__("os").path.getsize(f) for f in glob.glob("state/runs/*/spool/*"))
cpu = (used.ru_utime + used.ru_stime) / messages * 1e6
journal = report["journal"]
print(f"{sites:>5} {key:<8} {messages / wall:8.0f} {cpu:10.1f} {used.ru_maxrss / 1024:8.0f} "
      f"{(journal['octets'] + spool) / messages:9.0f} {journal['writes']:7} {journal['syncs']:7}", end="")
PYTHON
    sink_after=$(cpu_of "$sink_pid")
    awk -v a="$sink_before" -v b="$sink_after" -v n="$messages" -v line="$(cat figures.txt)" \
        'BEGIN { printf "%s %9.1f\n", line, (b - a) / n * 1e6 }'
}

"$ceiling" rsa
"$ceiling" client 127.0.0.1:2525 "$messages" 20 client.eml
echo "sites key      messages/s engine_us peak_MiB disk_B/msg  writes flushes  sink_us"
for count in "${sites[@]}"; do
    list $((count > 50 ? count : 50))
    world "$count"
    campaign "$count" unsigned
    [ "$count" != 1 ] || { campaign "$count" fixed; campaign "$count" signed; }
done
