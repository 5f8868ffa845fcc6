#!/usr/bin/env python3
"""Measures what the methods of docs/robustness.md gain where rows are few:

    robust_methods.py GPT_CLASSIFY MODEL DIRECTORY [--seeds N]

Every method learns 120 headlines of examples/data for each seed, is chosen by the validation rows alone, and is judged by 390
headlines that it has not seen; texts without labels are 240 others. The table that is printed has the mean over the seeds and its
standard deviation, and how far the mean is from that of the same seeds without a method. What is in DIRECTORY already is not run again,
so that more seeds cost no more than themselves.
"""
import argparse
import csv
import json
import pathlib
import statistics
import subprocess
import sys

DATA = pathlib.Path(__file__).resolve().parent / "data"
SYNONYMS = [("profit", "earnings", "income"), ("rises", "climbs", "grows"), ("rose", "climbed", "grew"),
            ("falls", "drops", "declines"), ("fell", "dropped", "declined"), ("cut", "lower", "reduce"),
            ("debt", "liabilities"), ("sales", "turnover"), ("shares", "stock"), ("company", "group")]
METHODS = {
    "none": [],
    "label smoothing": ["--label-smoothing-factor", "0.1"],
    "R-Drop": ["--r-drop-alpha", "1"],
    "FGM": ["--adversarial", "fgm", "--adversarial-epsilon", "0.3"],
    "FreeLB": ["--adversarial", "freelb", "--adversarial-epsilon", "0.3"],
    "supervised contrast": ["--contrastive-weight", "0.3"],
    "EDA, 2 copies": ["--augment-copies", "2", "--synonyms-file", "words.tsv"],
    "pseudo-labels": ["--unlabelled-file", "texts.csv"],
    "SWA": ["--swa-start", "0.75"],
    "EMA": ["--ema-decay", "0.95"],
    "layer-wise rates": ["--layerwise-lr-decay", "0.9"],
}


def rows_of(name):
    with open(DATA / f"financial_news_{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gpt_classify")
    parser.add_argument("model")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds is {arguments.seeds}, expected 2 or more: one has no spread")
    program, model = (str(pathlib.Path(p).resolve()) for p in (arguments.gpt_classify, arguments.model))
    directory = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    train = rows_of("train")
    write(directory / "few.csv", train[:120])
    write(directory / "texts.csv", [{"text": row["text"]} for row in train[120:360]])
    write(directory / "test.csv", train[360:] + rows_of("test"))
    (directory / "words.tsv").write_text("".join("\t".join(words) + "\n" for words in SYNONYMS))

    def output_of(*command):
        """What the program prints. Where it fails, what it says of that goes to standard error, and so does this program."""
        done = subprocess.run([program, *command], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            sys.stderr.buffer.write(done.stderr)
            sys.exit(f"{' '.join([program, *command])}: failed with status {done.returncode}")
        return done.stdout

    def scores(name, *command):
        """Accuracy of the answers, of the network alone and of the words alone; what was found once is kept."""
        kept = directory / f"{name}.json"
        if not kept.exists():
            kept.write_bytes(output_of("evaluate", "--test-file", "test.csv", "--json", *command))
        found = json.loads(kept.read_text())
        baselines = found["baselines"]
        return found["accuracy"], baselines.get("network_alone", found)["accuracy"], baselines["bag_of_words"]["accuracy"]

    all_scores = {}
    seeds = range(1, arguments.seeds + 1)
    for method, options in METHODS.items():
        for seed in seeds:
            name = f"{method.replace(' ', '-').replace(',', '')}-{seed}"
            if not (directory / name / "report.json").exists():
                output_of("train", "--model", model, "--train-file", "few.csv", "--validation-file",
                          str(DATA / "financial_news_validation.csv"), "--output-dir", name, "--seed", str(seed),
                          *options)
            all_scores.setdefault(method, []).append(scores(name, "--model", name))

    plain = [f"none-{seed}" for seed in seeds]
    with_others = [word for name in plain[1:] for word in ("--ensemble", name)]
    together = {f"ensemble of {len(plain)}": scores(f"ensemble-{len(plain)}", "--model", plain[0], *with_others)}
    average = f"average-{len(plain)}"
    if not (directory / average / "model.safetensors").exists():
        output_of("average", "--model", plain[0], *[word for name in plain[1:] for word in ("--with", name)],
                  "--output-dir", average)
    together[f"mean of the weights of {len(plain)}"] = scores(average, "--model", average)

    def cell(values):
        return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"

    print("| method | network alone | gain | with the words | gain |\n|---|---|---|---|---|")
    base = all_scores["none"]
    for method, found in all_scores.items():
        columns = []
        for which in (1, 0):
            gains = [one[which] - other[which] for one, other in zip(found, base)]
            columns += [cell([one[which] for one in found]), "" if method == "none" else cell(gains)]
        print(f"| {method} | {' | '.join(columns)} |")
    for method, found in together.items():
        gains = [100 * (found[which] - statistics.mean(one[which] for one in base)) for which in (1, 0)]
        print(f"| {method} | {100 * found[1]:.1f} | {gains[0]:+.1f} | {100 * found[0]:.1f} | {gains[1]:+.1f} |")
    print(f"\nThe words alone: {100 * base[0][2]:.1f}")


if __name__ == "__main__":
    main()
