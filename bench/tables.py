#!/usr/bin/env python3
"""Turns the JSON of benchmarks into the tables of README.md: everything between its markers
<!-- tables --> and <!-- /tables --> is replaced. Without --write the tables are printed."""
import argparse
import pathlib
import sys

sys.dont_write_bytecode = True
from measurements import RATES, fail, read_results

BEGIN, END = "<!-- tables -->\n", "<!-- /tables -->\n"
UNITS = {"tok_per_s": "tok/s", "gflops": "GFLOP/s", "gb_per_s": "GB/s", "mb_per_s": "MB/s", "loads_per_s": "loads/s"}
PEAKS = {"fma": "FMA", "int16": "int16", "int8_sum16": "int8", "int8_tiles": "AMX", "read": "read", "cache": "cache"}
EXTRA = {"first_token_s": "to the first token, s", "beyond_token_s": "beyond the token itself, s"}


def nearest_limit(run):
    """"93 % of FMA": the peak of which most is used is the one that bounds."""
    integer = any(f"frac_{peak}_peak" in run for peak in ("int16", "int8_sum16", "int8_tiles"))  # then float32's peak is no limit
    fractions = [(run[f"frac_{peak}_peak"], label) for peak, label in PEAKS.items()
                 if f"frac_{peak}_peak" in run and not (integer and peak == "fma")]
    if not fractions:
        return ""
    fraction, label = max(fractions)
    return f"{100 * fraction:.0f} % of {label}"


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def columns_of(name):
    """("Matmul", [("format", "f32"), ("M", "512"), ...])"""
    family, *parts = name.split("/")
    fields = [p.split(":", 1) if ":" in p else ("", p) for p in parts]
    return family.removeprefix("BM_"), fields


def table(family, runs):
    first = next(iter(runs.values()))
    keys = [key for key, _ in columns_of(next(iter(runs)))[1]]
    rate = next((r for r in RATES if r in first), None)
    extra = [key for key in EXTRA if key in first]
    memory = any("peak_rss_mb" in run for run in runs.values()) and rate in ("tok_per_s", "loads_per_s")
    limits = any(nearest_limit(run) for run in runs.values())
    heads = [*(key or "what" for key in keys), UNITS.get(rate, "runs/s"), *(EXTRA[e] for e in extra), *(["limit"] if limits else []), "spread",
             *(["peak memory, MiB"] if memory else [])]
    lines = [f"### {family}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, run in runs.items():
        cells = [value for _, value in columns_of(name)[1]]
        cells.append(number(run[rate]) if rate else number(1e3 / run["real_time"]))
        cells += [f"{run[e]:.3f}" for e in extra]
        if limits:
            cells.append(nearest_limit(run))
        cells.append(f"{100 * run.get('spread', 0):.0f} %")
        if memory:
            cells.append(number(run["peak_rss_mb"]) if "peak_rss_mb" in run else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def tables(runs):
    families = {}
    for name, run in runs.items():
        families.setdefault(columns_of(name)[0], {})[name] = run
    return "\n".join(table(family, members) for family, members in families.items())


def describe(contexts):
    """What the figures were measured on."""
    context = contexts[-1] if contexts else {}
    # "L2 512 KiB", with i or d where instructions and data have their own
    caches = ", ".join(f"L{c['level']}{c['type'][0].lower() if c['type'] != 'Unified' else ''} {c['size'] // 1024} KiB"
                       for c in context.get("caches", []))
    return (f"Measured {context.get('date', '')[:10]} on {context.get('num_cpus', '?')} CPUs of "
            f"{context.get('mhz_per_cpu', '?')} MHz{f' ({caches})' if caches else ''}, instruction set {context.get('isa', '?')}, products of "
            f"integers {context.get('integer_isa', '?')}, "
            f"{context.get('pairs', '?')} pairs each.\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", help="what --benchmark_out=FILE wrote")
    parser.add_argument("--write", type=pathlib.Path, metavar="README", help="replace the tables of this file")
    arguments = parser.parse_args()
    runs, contexts = read_results(arguments.results)
    if not runs:
        fail("no benchmarks in these files")
    text = describe(contexts) + "\n" + tables(runs)
    if not arguments.write:
        print(text)
        return
    page = arguments.write.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        fail(f"{arguments.write}: expected {BEGIN.strip()} and {END.strip()} once each")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    arguments.write.write_text(before + BEGIN + text + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
