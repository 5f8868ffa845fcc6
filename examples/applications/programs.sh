# Read by the applications beside it: what they share. Sets root, demo (the embedded model) and data; programs NAME... installs and builds
# what is missing for these programs, and sets bin to where they are: in the tree that ./tests/run.sh builds, if it is there, or else in that of
# demo.sh. What all of that prints goes to standard error.
LC_ALL=C  # numbers with points, whatever the user's language
export LC_ALL
root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
demo=$root/examples/models/demo
data=$root/examples/data

programs() {
  for preset in release demo; do
    build=$root/build/$preset
    # A tree that was moved or copied brings a build of the old place.
    if grep -sqxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt" && [ -e "$build/build.ninja" ]; then break; fi
  done
  bin=$build/examples
  {
    "$root/third_party/install.sh" --demo --check > /dev/null || "$root/third_party/install.sh" --demo
    grep -sqxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt" || rm -rf "$build"
    [ -e "$build/build.ninja" ] || cmake -S "$root" --preset "$preset"
    ninja -C "$build" -n "$@" | grep -q 'no work to do' || cmake --build "$build" --target "$@"
  } >&2
}

# begin NAME "$@": sets out to the directory that is the script's only argument, or to build/applications/NAME. Makes it anew where one of these
# scripts has made it, and never empties another one. With --help, prints what the script begins with instead.
begin() {
  out=${2:-$root/build/applications/$1}
  case $out in
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit ;;
    -*) wrong="$out is no option" ;;
    *) if [ $# -gt 2 ]; then wrong="$(($# - 1)) arguments, expected one directory"; else wrong=; fi ;;
  esac
  if [ -n "$wrong" ]; then
    echo "error: $wrong; try --help" >&2
    exit 2
  fi
  if [ -e "$out/.application" ]; then find "$out/." -mindepth 1 -delete; fi
  if [ -d "$out" ] && [ -n "$(ls -A "$out")" ]; then
    echo "error: $out holds something else, expected a directory that is empty or not there" >&2
    exit 1
  fi
  mkdir -p "$out"
  : > "$out/.application"
}

# quietly PROGRAM...: what it says on standard error is seen only where it fails, which ends the script.
quietly() {
  "$@" 2> "$out/log" || {
    cat "$out/log" >&2
    exit 1
  }
}

# number FILE NAME: the number that JSON gives this name first.
number() { grep -o "\"$2\": *[-0-9.e+]*" "$1" | head -n 1 | sed 's/.*: *//'; }

# require WHAT VALUE at-least|at-most LIMIT: ends with status 1 where it is not so.
require() {
  if awk -v value="$2" -v limit="$4" -v how="$3" \
    'BEGIN { exit !(value != "" && (how == "at-least" ? value + 0 >= limit + 0 : value + 0 <= limit + 0)) }'; then
    echo "$1 $2 (expected $3 $4)"
  else
    echo "$1 is ${2:-missing}, expected $3 $4" >&2
    exit 1
  fi
}
