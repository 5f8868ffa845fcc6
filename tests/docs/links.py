#!/usr/bin/env python3
"""Checks the links of the Markdown files of a directory, recursively: their files are there, and so are the headings they name.

    links.py SOURCE_DIR

Links that begin with a scheme (https:) are not followed. Nothing is read in hidden directories and in build/, build-*/.
"""
import os
import re
import sys
from urllib.parse import unquote

LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def without_code(lines):
    """The lines, those of code blocks and the code inside lines blanked."""
    fence = None
    for line in lines:
        mark = re.match(r"\s*(```+|~~~+)", line)
        if fence is None and mark:
            fence = mark[1]
            yield ""
        elif fence is not None:
            if line.strip() == fence:
                fence = None
            yield ""
        else:
            yield re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "`", line)


def anchors(path):
    """The names that GitHub gives to the headings of a file."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    found = set()
    for kept, line in zip(without_code(lines), lines):
        heading = re.match(r"#+\s+(.*?)\s*#*$", line) if kept else None
        if heading:
            name = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            count = sum(1 for other in found if re.fullmatch(re.escape(name) + r"(-\d+)?", other))
            found.add(name if count == 0 else f"{name}-{count}")
    return found


def broken(path):
    """(line number, target, what is wrong) of every link that leads nowhere, and how many links there are."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    count, wrong = 0, []
    for number, line in enumerate(without_code(lines), 1):
        for target in LINK.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
                continue
            count += 1
            file, _, anchor = target.partition("#")
            place = os.path.join(os.path.dirname(path), unquote(file)) if file else path
            if not os.path.exists(place):
                wrong.append((number, target, "no such file"))
            elif anchor and place.endswith(".md") and anchor not in anchors(place):
                wrong.append((number, target, "no such heading"))
    return count, wrong


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    count, failed = 0, 0
    for where, directories, files in os.walk(sys.argv[1]):
        directories[:] = sorted(d for d in directories if not d.startswith((".", "build")))
        for file in sorted(files):
            if file.endswith(".md"):
                path = os.path.join(where, file)
                links, wrong = broken(path)
                count += links
                failed += len(wrong)
                for number, target, why in wrong:
                    print(f"{path}:{number}: {target}: {why}")
    if count == 0:
        sys.exit(f"{sys.argv[1]}: found no link")
    print(f"{count} links, {failed} lead nowhere")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
