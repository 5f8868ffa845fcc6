"""What the scripts of this directory share: running benchmarks, reading their JSON, medians of ratios."""
import json
import math
import re
import subprocess
import sys

RATES = ("tok_per_s", "gflops", "gb_per_s", "mb_per_s", "loads_per_s")


def fail(message, status=1):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def quartiles(values):
    """The medians of the lower and of the upper half; of one value, that value twice."""
    values = sorted(values)
    half = len(values) // 2
    return (median(values[:half]), median(values[-half:])) if half else (values[0], values[0])


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def describe_ratios(ratios):
    low, high = quartiles(ratios)
    return (f"{median(ratios):.3f}  quartiles {low:.3f} .. {high:.3f}  "
            f"range {min(ratios):.3f} .. {max(ratios):.3f}  ({len(ratios)} pairs)")


def rate_of(run):
    """The counter that says how fast; without one, runs per second."""
    for name in RATES:
        if name in run:
            return run[name]
    return 1e3 / (run["real_time"] * {"ns": 1e-6, "us": 1e-3, "ms": 1, "s": 1e3}[run["time_unit"]])


def read_results(files):
    """The benchmarks of Google Benchmark's JSON files, by name; a later file wins. Failed ones are left out."""
    runs, contexts = {}, []
    for path in files:
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
        contexts.append(data.get("context", {}))
        for run in data.get("benchmarks", []):
            if run.get("run_type") != "aggregate" and not run.get("error_occurred"):
                runs[run["name"]] = run
    return runs, contexts


def run_benchmarks(program, benchmark_filter, options=()):
    """Runs a benchmark program: {name: run}."""
    command = [program, f"--benchmark_filter={benchmark_filter}", "--benchmark_format=json", *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        runs = json.loads(result.stdout)["benchmarks"]
    except (ValueError, KeyError):
        fail(f"{' '.join(command)}: exit status {result.returncode}, no JSON on its output")
    for run in runs:
        if run.get("error_occurred"):
            fail(f"{run['name']}: {run.get('error_message')}")
    return {run["name"]: run for run in runs if run.get("run_type") != "aggregate"}


NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RATE = re.compile(rf"({NUMBER})\s*(?:tok(?:ens)?/s(?:ec)?|t/s|GFLOP/s|GFLOPS|GB/s)", re.IGNORECASE)


def rate_in(text):
    """The last number before a unit like tok/s or GFLOP/s, else the last number."""
    found = RATE.findall(text) or re.findall(NUMBER, text)
    return float(found[-1]) if found else None


def run_command(command):
    """The rate that a shell command prints."""
    result = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        fail(f"{command}: exit status {result.returncode}")
    rate = rate_in(result.stdout)
    if rate is None or not rate > 0:
        fail(f"{command}: no rate in its output:\n{result.stdout[-2000:]}")
    return rate


