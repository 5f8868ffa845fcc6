#!/usr/bin/env python3
"""Runs the console examples of a Markdown file and compares what they print with what the file says.

    console.py SOURCE_DIR PROGRAM_DIR FILE [--update]

An example is a block ```console: lines "$ command" (continued behind a backslash, or by lines "> ..."), each followed by what
it prints, standard output and error alike; a line "..." stands for any lines. Times, rates and sizes in memory may differ. All
blocks run in one empty directory that shows the source's examples/ and tests/; "$ cat FILE" of a file that is not there yet
makes it. Nothing is run behind a line "<!-- not run: why -->". --update writes what was printed into the file instead.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

ANY = "..."
VARIES = [(r"\d+ tok/s", "N tok/s"), (r"\bin \d+\.\d+ s\b", "in N s"), (r"\d+:\d\d:\d\d left", "T left"),
          (r'"(\w+_s|peak_rss_bytes)": ?[\d.e+-]+', r'"\1":N')]


def comparable(line):
    for pattern, replacement in VARIES:
        line = re.sub(pattern, replacement, line)
    return line


def examples(lines):
    """(begin, end) of every block that is to be run: the lines between the fences."""
    previous, begin = "", None
    for i, line in enumerate(lines):
        if begin is not None:
            if line == "```":
                yield begin, i
                begin = None
        elif line == "```console" and not previous.startswith("<!-- not run:"):
            begin = i + 1
        if line:
            previous = line


def commands(block):
    """[lines of the command, lines that it prints] of a block."""
    found, goes_on = [], False
    for line in block:
        if line.startswith("$ "):
            found.append([[line], []])
        elif found and not found[-1][1] and (goes_on or line.startswith("> ")):
            found[-1][0].append(line)
        elif found:
            found[-1][1].append(line)
        else:
            sys.exit(f"a block begins with {line!r}, expected a command")
        goes_on = line.endswith("\\")
    return found


def matches(expected, got):
    if not expected:
        return not got
    if expected[0] == ANY:
        return any(matches(expected[1:], got[i:]) for i in range(len(got) + 1))
    return bool(got) and comparable(expected[0]) == comparable(got[0]) and matches(expected[1:], got[1:])


def updated(expected, got):
    """What was printed, with the lines left out that the file leaves out."""
    if matches(expected, got):
        return expected
    if ANY not in expected:
        return got
    before = expected.index(ANY)
    behind = len(expected) - 1 - before
    return got[:before] + [ANY] + got[len(got) - behind:]


def run(command, where, programs):
    script = "\n".join(line.removeprefix("$ ").removeprefix("> ") for line in command)
    made = re.fullmatch(r"cat (\S+)", script)
    if made and not os.path.exists(os.path.join(where, made[1])):
        return made[1]
    environment = dict(os.environ, PATH=programs + os.pathsep + os.environ["PATH"], LC_ALL="C.UTF-8")
    done = subprocess.run(["sh", "-c", script], cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    lines = done.stdout.decode(errors="backslashreplace").removesuffix("\n").split("\n")
    if done.returncode < 0 or done.returncode > 128:
        lines.append(f"(ended by a signal: {done.returncode})")
    return lines if lines != [""] else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("programs")
    parser.add_argument("file")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as f:
        lines = f.read().split("\n")

    count, wrong, written, rest = 0, 0, [], 0
    with tempfile.TemporaryDirectory() as where:
        for name in ("examples", "tests"):
            os.symlink(os.path.join(os.path.abspath(options.source), name), os.path.join(where, name))
        for begin, end in examples(lines):
            written += lines[rest:begin]
            rest = end
            for command, expected in commands(lines[begin:end]):
                got = run(command, where, os.path.abspath(options.programs))
                if isinstance(got, str):
                    with open(os.path.join(where, got), "w", encoding="utf-8") as f:
                        f.write("\n".join(expected) + "\n")
                    got = expected
                count += 1
                written += command + updated(expected, got)
                if not options.update and not matches(expected, got):
                    wrong += 1
                    print("\n".join(command), "prints", *(f"  | {line}" for line in got), "where the file says",
                          *(f"  | {line}" for line in expected), "", sep="\n")
    if options.update:
        with open(options.file, "w", encoding="utf-8") as f:
            f.write("\n".join(written + lines[rest:]))
    if count == 0:
        sys.exit(f"{options.file} has no example")
    print(f"{options.file}: {count} commands, {wrong} print something else")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
