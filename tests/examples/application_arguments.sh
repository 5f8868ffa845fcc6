#!/bin/sh
# application_arguments.sh DIRECTORY: how the applications in it take their arguments, and what they leave alone. They run in a tree with blanks in
# its name, whose tools and programs are stand-ins that fail.
set -eu
root="$(mktemp -d)/a tree"
trap 'rm -rf "${root%/*}"' EXIT
mkdir -p "$root/examples" "$root/third_party" "$root/build/demo/examples" "$root/bin"
cp -R "$1" "$root/examples/applications"
: > "$root/build/demo/build.ninja"
echo "CMAKE_HOME_DIRECTORY:INTERNAL=$root" > "$root/build/demo/CMakeCache.txt"
stand_in() { printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1"; }
stand_in "$root/third_party/install.sh" ':'
stand_in "$root/bin/ninja" 'echo "ninja: no work to do."'
for program in classify finetune evaluate; do
  stand_in "$root/build/demo/examples/gpt-$program" "echo 'error: $program is a stand-in' >&2; exit 1"
done
mkdir "$root/examples/data"
: > "$root/examples/data/customer_service_test.jsonl"
PATH=$root/bin:$PATH

failed=0
# expect STATUS PATTERN NAME ARGUMENT...: the application ends so, and says (or, of status 0, prints) a line like that.
expect() {
  status=$1 pattern=$2 name=$3
  shift 3
  found=0
  sh "$root/examples/applications/$name.sh" "$@" > "$root/output" 2>&1 || found=$?
  if [ "$found" = "$status" ] && grep -q "$pattern" "$root/output"; then return; fi
  echo "$name.sh $* ends with $found, expected $status and $pattern:"
  cat "$root/output"
  failed=1
}
# holds NAME...: what is in the directory.
holds() {
  found=$(ls -A "$root/some files" | tr '\n' ' ')
  [ "$found" = "$* " ] && return
  echo "some files hold $found, expected $*"
  failed=1
}
for name in customer_service financial_news recommendation; do
  expect 0 "examples/applications/$name.sh \[DIRECTORY\]" "$name" --help
  expect 2 'error: --output is no option' "$name" --output
  expect 2 'error: 2 arguments, expected one directory' "$name" one two
  [ ! -e --help ] && [ ! -e "$root/build/applications" ] || failed=1
  rm -rf "$root/some files"
  mkdir "$root/some files"
  : > "$root/some files/mine"
  expect 1 'some files holds something else' "$name" "$root/some files"
  holds mine
  rm "$root/some files/mine"
  expect 1 'is a stand-in' "$name" "$root/some files"  # whose message is seen
  : > "$root/some files/from before"
  ln -sfn "some files" "$root/link"
  expect 1 'is a stand-in' "$name" "$root/link"
  [ -L "$root/link" ] && [ ! -e "$root/some files/from before" ] && [ -e "$root/some files/.application" ] || {
    echo "$name.sh: what was made before is not made anew"
    failed=1
  }
done
exit $failed
