#!/usr/bin/env python3
"""Writes recipients.csv beside itself: 2,150 rows at the providers of world.toml; the same ones each time."""

import csv
import pathlib
import random

FIRST = "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Liam Mia Noah Olivia Paul Rosa Vera".split()
REGIONS = ["Sidamo", "Huila", "Tarrazú", "Nyeri", "Antigua"]
PEOPLE = {"gmail.test": 1_100, "yahoo.test": 300, "aol.test": 150, "outlook.test": 200}
PEOPLE |= {f"firm{number}.test": 20 for number in range(1, 21)}

rng = random.Random("newsletter")
domains = [domain for domain, count in PEOPLE.items() for _ in range(count)]
rng.shuffle(domains)
with pathlib.Path(__file__).with_name("recipients.csv").open("w", encoding="utf-8", newline="") as file:
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["email", "first_name", "region", "member"])
    for number, domain in enumerate(domains):
        first = rng.choice(FIRST)
        out.writerow([f"{first.lower()}{number}@{domain}", first, rng.choice(REGIONS), f"P{number:06}"])
