#!/usr/bin/env python3
"""Draws the roofline of benchmarks as SVG: how many operations a second, over how many operations there are for each
byte that must come from memory, under the limits measured beside them."""
import argparse
import math
import re
import sys
from xml.sax.saxutils import escape

sys.dont_write_bytecode = True
from measurements import fail, median, read_results

WIDTH, HEIGHT = 980, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 330, 40, 60  # margins; the legend is on the right
COLOURS = {"f32": "#1f77b4", "f16": "#2ca02c", "bf16": "#17becf", "int8": "#ff7f0e", "int4": "#d62728"}


def point_of(name, run):
    """(operations per byte, GFLOP/s) of a benchmark that has both, else None."""
    if "ops_per_byte" not in run:
        return None
    if "gflops" in run:
        return run["ops_per_byte"], run["gflops"]
    if "frac_fma_peak" in run:
        return run["ops_per_byte"], run["frac_fma_peak"] * run["peak_fma"]
    return None


def ticks(low, high):
    """1, 2, 5, 10, ... between two bounds."""
    return [m * 10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for m in (1, 2, 5) if low <= m * 10.0 ** e <= high]


class Plot:
    def __init__(self, x_range, y_range):
        self.x_range, self.y_range, self.parts = x_range, y_range, []

    def x(self, value):
        low, high = map(math.log, self.x_range)
        return LEFT + (math.log(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = map(math.log, self.y_range)
        return HEIGHT - BOTTOM - (math.log(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(self, x1, y1, x2, y2, colour, width=1.0, dash=""):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
                          f'stroke-width="{width}" stroke-dasharray="{dash}"/>')

    def text(self, x, y, text, anchor="start", size=12, colour="#222", extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" '
                          f'{extra}>{escape(text)}</text>')

    def axes(self):
        for v in ticks(*self.x_range):
            self.line(self.x(v), TOP, self.x(v), HEIGHT - BOTTOM, "#e4e4e4")
            self.text(self.x(v), HEIGHT - BOTTOM + 18, f"{v:g}", "middle")
        for v in ticks(*self.y_range):
            self.line(LEFT, self.y(v), WIDTH - RIGHT, self.y(v), "#e4e4e4")
            self.text(LEFT - 8, self.y(v) + 4, f"{v:g}", "end")
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "operations per byte of memory", "middle", 13)
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self.text(18, middle, "GFLOP/s, GOP/s", "middle", 13, extra=f'transform="rotate(-90 18 {middle:.1f})"')

    def roof(self, read, compute, label, colour, dash=""):
        """min(compute, read * x)."""
        x_low, x_high = self.x_range
        ridge = min(max(compute / read, x_low), x_high)
        if compute / read > x_low:
            start = max(x_low, self.y_range[0] / read)
            self.line(self.x(start), self.y(start * read), self.x(ridge), self.y(ridge * read), colour, 2, dash)
        self.line(self.x(ridge), self.y(compute), self.x(x_high), self.y(compute), colour, 2, dash)
        self.text(self.x(x_high) - 4, self.y(compute) - 6, label, "end", 12, colour)

    def svg(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">\n'
                f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def peaks_of(runs, counter):
    values = [r[counter] for r in runs if counter in r]
    return median(values) if values else None


def draw(runs, title):
    points = {name: point_of(name, run) for name, run in runs.items()}
    points = {name: p for name, p in points.items() if p and min(p) > 0}
    if not points:
        fail("no benchmark here has operations and bytes: run bench_ops or bench_model with the peaks")
    used = [runs[name] for name in points]
    read, fma, int16, int8, tiles = (peaks_of(used, "peak_" + kind) for kind in ("read", "fma", "int16", "int8_sum16", "int8_tiles"))
    if not read or not fma:
        fail("these results lack the peaks: run without --no-peaks")
    xs, ys = zip(*points.values())
    plot = Plot((min(*xs, fma / read) / 2, max(*xs, fma / read) * 2), (min(ys) / 2, max(*ys, fma, int16 or 0, int8 or 0, tiles or 0) * 1.6))
    plot.axes()
    plot.text(LEFT, 24, title, size=15)
    plot.roof(read, fma, f"float32 FMA {fma:.0f} GFLOP/s", "#444")
    for peak, kind in ((int16, "int16"), (int8, "int8"), (tiles, "int8 tile")):
        if peak:
            plot.roof(read, peak, f"{kind} products {peak:.0f} GOP/s", "#999", "6 4")
    plot.text(plot.x(plot.x_range[0]) + 10, TOP + 16, f"memory read {read:.1f} GB/s (the slope)", colour="#444")
    row = TOP
    for number, (name, (x, y)) in enumerate(sorted(points.items(), key=lambda item: item[1]), 1):
        colour = COLOURS.get(name.split("/")[1].split("-")[0], "#7f7f7f")
        plot.parts.append(f'<circle cx="{plot.x(x):.1f}" cy="{plot.y(y):.1f}" r="4" fill="{colour}">'
                          f'<title>{escape(name)}: {y:.1f}</title></circle>')
        plot.text(plot.x(x) + 6, plot.y(y) + 12, str(number), size=10, colour=colour)
        plot.text(WIDTH - RIGHT + 16, row, f"{number}  {name.removeprefix('BM_')}  {y:.0f}", size=9, colour=colour)
        row += min(14, (HEIGHT - TOP - 10) / len(points))
    return plot.svg()


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: bench/roofline.py ops.json model.json "
                                     "--threads 2 --filter 'Prefill|Decode|M:512' --output bench/roofline.svg")
    parser.add_argument("results", nargs="+", help="what --benchmark_out=FILE wrote")
    parser.add_argument("--threads", type=int, help="only benchmarks with so many threads (default: the most there are)")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only benchmarks whose names contain this")
    parser.add_argument("--output", default="roofline.svg", help="(default: %(default)s)")
    parser.add_argument("--title", default="")
    arguments = parser.parse_args()
    runs, _ = read_results(arguments.results)

    def threads_of(name):
        return next((int(p[8:]) for p in name.split("/") if p.startswith("threads:")), 1)

    threads = arguments.threads or max(map(threads_of, runs), default=1)
    chosen = {name: run for name, run in runs.items()
              if threads_of(name) == threads and re.search(arguments.filter, name)}
    svg = draw(chosen, arguments.title or f"Roofline, {threads} thread{'s' if threads > 1 else ''}")
    with open(arguments.output, "w", encoding="utf-8") as f:
        f.write(svg)


if __name__ == "__main__":
    main()
