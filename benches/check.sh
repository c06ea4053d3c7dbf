#!/usr/bin/env bash
# A check of a long list: every row's message (10 KB, text and HTML, ten variables) made and read, the list
# looked over, nothing asked of the network. Needs python3 and openssl.
#
#   benches/check.sh [ROWS]        default: 1000000
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${1:-1000000}
[ -n "${POSTROAD:-}" ] || cargo build --release --quiet
postroad=${POSTROAD:-$PWD/target/release/postroad}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir campaign
openssl genrsa -out campaign/dkim.pem 2048 2>/dev/null
chmod 600 campaign/dkim.pem
python3 - "$postroad" "$rows" <<'PYTHON'
import json, random, resource, subprocess, sys, time
postroad, rows = sys.argv[1], int(sys.argv[2])
random.seed(7)
words = "garden autumn offer tool member order friday reply colour chance shipped saving quick every".split()
paragraph = lambda n: " ".join(random.choice(words) for _ in range(n))
names = ["name", "city", "plan", "points", "code", "date", "shop", "agent", "gift", "id"]
leave = "https://lists.sender.test/u/{{ id }}"
text = "Hello {{ name }},\n\n" + "\n\n".join(f"{paragraph(55)} {{{{ {name} }}}}" for name in names[:6]) + f"\n\nLeave: {leave}\n"
html = "<!doctype html><html><head><title>Autumn</title></head><body><h1>Hello {{ name }}</h1>\n"
for at, name in enumerate(names):
    html += f"<p style=\"margin:0 0 12px 0\">{paragraph(80)} {{{{ {name} }}}}</p>\n"
    html += f"<p><a href=\"https://shop.sender.test/{at}/{{{{ id }}}}\">Read on</a></p>\n"
html += f"<p><a href=\"{leave}\">Unsubscribe</a></p></body></html>\n"
open("campaign/message.txt", "w").write(text)
open("campaign/message.html", "w").write(html)
open("campaign/campaign.toml", "w").write(f"""
name = "bench"
from = "Sender <news@sender.test>"
return_path_domain = "sender.test"
subject = "{{{{ name }}}}, our autumn offers"
text = "message.txt"
html = "message.html"
[unsubscribe]
url = "{leave}"
[list]
file = "recipients.csv"
[[dkim]]
domain = "sender.test"
selector = "s1"
key_file = "dkim.pem"
""")
with open("campaign/recipients.csv", "w") as out:
    out.write("email," + ",".join(names) + "\n")
    for n in range(rows):
        out.write(f"user{n}@d{n * 7919 % 50000}.test,Pat {n},Town {n % 900},basic,{n % 5000},C{n},2026-12-01,Main,Kim,mug,r{n}\n")
began = resource.getrusage(resource.RUSAGE_CHILDREN)
start = time.monotonic()
done = subprocess.run([postroad, "--json", "check", "campaign", "--offline"], stdout=subprocess.PIPE, text=True)
seconds = time.monotonic() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
report = json.loads(done.stdout)["check"]
assert done.returncode == 0 and report["figures"]["rendered"] == rows, report
print(f"{rows:,} rows in {seconds:.1f} s ({used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime:.1f} s of CPU): "
      f"{rows / seconds:,.0f} rows/s, peak memory {used.ru_maxrss / 1024:.0f} MiB, "
      f"largest message {report['figures']['largest']['octets']:,} octets")
PYTHON
