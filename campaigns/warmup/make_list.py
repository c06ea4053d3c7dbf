#!/usr/bin/env python3
"""Writes recipients.csv beside itself: 2,350 rows at the providers of world.toml; the same ones each time."""

import csv
import pathlib
import random

FIRST = "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karla Liam Mia Noah Olivia Paul Rosa Vera".split()
PEOPLE = {"gmail.test": 2_250} | {f"firm{number}.test": 10 for number in range(1, 11)}

rng = random.Random("warmup")
domains = [domain for domain, count in PEOPLE.items() for _ in range(count)]
rng.shuffle(domains)
with pathlib.Path(__file__).with_name("recipients.csv").open("w", encoding="utf-8", newline="") as file:
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["email", "first_name", "member"])
    for number, domain in enumerate(domains):
        first = rng.choice(FIRST)
        out.writerow([f"{first.lower()}{number}@{domain}", first, f"P{number:06}"])
