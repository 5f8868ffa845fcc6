#!/bin/sh
# layering.sh ROOT: checks the sources against the rules of CONTRIBUTING.md that a compiler does not know: which part may
# include which, and what may be used where. Prints file:line: what is wrong for every breach and exits 1 if there is any.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
files=$(find include src examples bench -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.inl' \) 2>/dev/null | LC_ALL=C sort)
[ -n "$files" ] || { echo "no sources under $1"; exit 1; }
# shellcheck disable=SC2086  # one word per file: the tree has no blanks in names
LC_ALL=C exec awk -f "$here/layering.awk" $files
