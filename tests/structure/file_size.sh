#!/bin/sh
# file_size.sh ROOT: a file of more than 600 lines has more than one job.
set -eu
cd "$1"
find CMakeLists.txt CMakePresets.json README.md CONTRIBUTING.md docs include src tests bench examples third_party -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.inl' -o -name '*.in' -o -name '*.cmake' -o -name 'CMakeLists.txt' \
     -o -name '*.sh' -o -name '*.py' -o -name '*.md' -o -name 'CMakePresets.json' \) -exec wc -l {} + |
  awk '$2 != "total" { files++; if ($1 > 600) { print $2 ": " $1 " lines, expected at most 600"; bad = 1 } }
       END { if (files < 10) { print "only " files + 0 " files found: is this the source tree?"; exit 1 }
             if (!bad) print files " files of at most 600 lines"; exit bad }'
