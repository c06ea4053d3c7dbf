"""Works out who a campaign mails, independently of the program, and writes expected.toml beside it.

    python3 tests/segments/oracle.py tests/segments/*/

Reads the manifest and the lists with Python's own parsers and evaluates a `where` as the Python expression
it also is: a field answers each comparison by what it is compared with, and a comparison without an answer
raises TypeError. Addresses are taken to be good if they look like one@two.three. Knows no samples.
"""

import csv
import gzip
import io
import json
import pathlib
import re
import sys
import tomllib


class Field:
    """A field of a row in a Python expression."""

    def __init__(self, text):
        self.text = text
        inner = text.strip(" \t\r\n")
        self.empty = inner == ""
        self.value = text
        if re.fullmatch(r"-?(0|[1-9][0-9]*)", inner):
            self.value = int(inner)
        elif re.fullmatch(r"-?(0|[1-9][0-9]*)\.[0-9]+", inner):
            self.value = float(inner)
        elif inner.lower() in ("true", "false"):
            self.value = inner.lower() == "true"

    def both(self, other):
        if isinstance(other, Field):
            return self.value, other.value, not self.empty and not other.empty
        if isinstance(other, str):
            return self.text, other, not self.empty
        return self.value, other, not self.empty

    def ordered(self, other):
        mine, theirs, there = self.both(other)
        numbers = [type(side) in (int, float) for side in (mine, theirs)]
        texts = [type(side) is str for side in (mine, theirs)]
        if not there or not (all(numbers) or all(texts)):
            raise TypeError("neither less nor greater")
        return mine, theirs

    def __eq__(self, other):
        if other is None:
            return self.empty
        mine, theirs, there = self.both(other)
        return there and type(mine) is type(theirs) and mine == theirs or (
            there and {type(mine), type(theirs)} == {int, float} and mine == theirs
        )

    def __lt__(self, other):
        mine, theirs = self.ordered(other)
        return mine < theirs

    def __gt__(self, other):
        mine, theirs = self.ordered(other)
        return mine > theirs

    def __le__(self, other):
        mine, theirs = self.ordered(other)
        return mine <= theirs

    def __ge__(self, other):
        mine, theirs = self.ordered(other)
        return mine >= theirs

    def __bool__(self):
        return not self.empty and bool(self.value)

    def __hash__(self):
        return 0


def variable(name):
    name = "".join(c.lower() if c.isascii() and c.isalnum() else "_" for c in name)
    return "_" + name if name[0].isdigit() else name


class List:
    def __init__(self, folder, table):
        self.name = table["file"]
        self.where = table.get("where")
        octets = (folder / table["file"]).read_bytes()
        if self.name.endswith(".gz"):
            octets = gzip.decompress(octets)
        address = table.get("address", "email")
        wanted = table.get("columns")
        self.rows = []
        stem = self.name.removesuffix(".gz")
        if stem.endswith((".ndjson", ".jsonl")):
            lines = [line for line in octets.decode("utf-8").split("\n") if line.strip()]
            keys = wanted or {variable(key): key for key in json.loads(lines[0])}
            for line in lines:
                item = json.loads(line, parse_int=str, parse_float=str)
                text = lambda key: {None: "", True: "true", False: "false"}.get(item.get(key), item.get(key))
                self.rows.append((text(address), {name: text(key) for name, key in keys.items()}, None))
        else:
            text = io.StringIO(octets.decode("utf-8", "surrogateescape"), newline="")
            reader = csv.reader(text, delimiter=table.get("delimiter", ","))
            header = [name.strip() for name in next(reader)]
            keys = wanted or {variable(name): name for name in header}
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header) or any("\udc80" <= c <= "\udcff" for c in "".join(row)):
                    self.rows.append((None, None, "broken"))
                    continue
                named = dict(zip(header, row))
                self.rows.append((named[address], {name: named[key] for name, key in keys.items()}, None))
        self.columns = sorted(wanted) if wanted else list(keys)


def address_of(text):
    text = (text or "").strip(" \t")
    match = re.fullmatch(r"([A-Za-z0-9.+_-]+)@([A-Za-z0-9.-]+\.[A-Za-z]+)", text)
    return f"{match[1]}@{match[2].lower()}" if match else None


def key(address):
    return address.lower()


def holds(where, fields, address):
    """True, False, or None where there is no answer."""
    if where is None:
        return True
    names = {"none": None, "true": True, "false": False}
    domain = address.split("@")[1]
    names |= {name: Field(text) for name, text in {"address": address, "email": address, "domain": domain}.items()}
    names |= {name: Field(text) for name, text in fields.items()}
    try:
        return bool(eval(f"({where})", {"__builtins__": {}}, names))
    except TypeError:
        return None


def work_out(folder):
    manifest = tomllib.loads((folder / "campaign.toml").read_text())
    tables = manifest["list"] if isinstance(manifest["list"], list) else [manifest["list"]]
    lists = [List(folder, table) for table in tables]
    columns = list(dict.fromkeys(name for one in lists for name in one.columns))
    select = manifest.get("select", {})
    excluded = set()
    for table in manifest.get("exclude", []):
        one = List(folder, table)
        for text, fields, flaw in one.rows:
            address = None if flaw else address_of(text)
            if address and holds(one.where, fields, address) is not False:
                excluded.add(key(address))
    suppressed = set()
    for file in manifest.get("suppression", []):
        suppressed |= {key(line.strip()) for line in (folder / file).read_text().splitlines()}
    queue = [(one, at, row, False) for one in lists for at, row in enumerate(one.rows, 1)]
    seeds = []
    if "seeds" in manifest:
        one = List(folder, manifest["seeds"]["list"])
        seeds = [(one, at, row, True) for at, row in enumerate(one.rows, 1)]
    totals = dict.fromkeys(
        ["rows", "invalid", "duplicate", "suppressed", "accepted", "seeds", "condition", "excluded", "cap"], 0
    )
    mailed, rejected, seen = [], [], set()

    def due():
        recipients = totals["accepted"] - totals["seeds"]
        every = manifest.get("seeds", {}).get("every")
        places = manifest.get("seeds", {}).get("at", [])
        return recipients // every if every else sum(place <= recipients for place in places)

    while queue or seeds:
        take = seeds if seeds and (totals["seeds"] < due() or not queue) else queue
        one, at, (text, fields, flaw), is_seed = take.pop(0)
        totals["rows"] += 1
        number = totals["rows"]
        address = None if flaw else address_of(text)
        everything = {name: (fields or {}).get(name, "") for name in columns}
        meant = True
        if address:
            for where, known in [(one.where, fields), (None if is_seed else select.get("where"), everything)]:
                meant = meant and holds(where, known, address)
        if address is None or meant is None:
            totals["invalid"] += 1
            rejected.append((number, one.name, at))
        elif not meant:
            totals["condition"] += 1
        elif not is_seed and key(address) in excluded:
            totals["excluded"] += 1
        elif key(address) in suppressed or "@" + address.split("@")[1] in suppressed:
            totals["suppressed"] += 1
        elif key(address) in seen:
            totals["duplicate"] += 1
        elif not is_seed and totals["accepted"] - totals["seeds"] >= select.get("cap", 1 << 60):
            totals["cap"] += 1
        else:
            seen.add(key(address))
            totals["accepted"] += 1
            totals["seeds"] += is_seed
            mailed.append((number, address, one.name, at, [everything[name] for name in columns]))
    return columns, totals, mailed, rejected


def quoted(text):
    return json.dumps(text, ensure_ascii=True).replace("\\/", "/").replace("\x7f", "\\u007f")


def write(folder):
    columns, totals, mailed, rejected = work_out(folder)
    lines = ["# Written by oracle.py.", f"columns = [{', '.join(map(quoted, columns))}]", "", "[totals]"]
    lines += [f"{name} = {count}" for name, count in totals.items()]
    for number, address, name, at, fields in mailed:
        lines += ["", "[[mailed]]", f"row = {number}", f"address = {quoted(address)}", f"list = {quoted(name)}"]
        lines += [f"list_row = {at}", f"fields = [{', '.join(map(quoted, fields))}]"]
    for number, name, at in rejected:
        lines += ["", "[[rejected]]", f"row = {number}", f"list = {quoted(name)}", f"list_row = {at}"]
    (folder / "expected.toml").write_text("\n".join(lines) + "\n")


for argument in sys.argv[1:]:
    folder = pathlib.Path(argument)
    if (folder / "campaign.toml").exists() and not (folder / "refused.txt").exists():
        write(folder)
