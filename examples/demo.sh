#!/bin/sh
# Generates text with the embedded model: installs what is missing, builds the program generate, and runs it. All
# arguments go to generate (try --help); what it generates goes to stdout, everything else to stderr.
#
#   examples/demo.sh
#   examples/demo.sh --prompt "JULIET:" --temperature 1.2 --seed 7
#   examples/demo.sh --model ~/gpt2 --prompt "Once upon a time"
#
# What is not given is --model examples/models/demo --prompt ROMEO: --do-sample --temperature 0.8 --top-k 50
# --max-new-tokens 150 --seed 1; nothing of sampling beside --no-do-sample (the likeliest token is taken each time),
# --penalty-alpha, --num-beams and --num-beam-groups, and no --top-k beside --mirostat.
set -eu
root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
build=$root/build/demo

{
  "$root/third_party/install.sh" --demo --check > /dev/null || "$root/third_party/install.sh" --demo
  # A tree that was moved or copied brings a build of the old place.
  grep -sqxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt" || rm -rf "$build"
  [ -e "$build/build.ninja" ] || cmake -S "$root" --preset demo
  # Asking first keeps a run without work silent.
  ninja -C "$build" -n generate | grep -q 'no work to do' || (cd "$root" && cmake --build --preset demo)
} >&2

# The names of the options given, each between blanks. What follows one that takes a value is that value, whatever it looks like.
options=
value=no
for argument in "$@"; do
  if [ $value = yes ]; then value=no; continue; fi
  case $argument in
    --do-sample | --help | --json | --json-object | --no-do-sample | --no-mmap | --no-pack | --no-renormalize-logits | \
      --no-sliding-window | --pack | --renormalize-logits | --sliding-window | --version | *=*) ;;
    --*) value=yes ;;
  esac
  options="$options ${argument%%=*} "
done
absent() { case $options in *" $1 "*) return 1 ;; esac }

absent --seed && set -- --seed 1 "$@"
absent --max-new-tokens && absent --max-length && set -- --max-new-tokens 150 "$@"
if absent --no-do-sample && absent --penalty-alpha && absent --num-beams && absent --num-beam-groups; then
  absent --top-k && absent --mirostat && set -- --top-k 50 "$@"
  absent --temperature && set -- --temperature 0.8 "$@"
  absent --do-sample && set -- --do-sample "$@"
fi
absent --prompt && absent --prompt-file && absent --input-ids && set -- --prompt ROMEO: "$@"
absent --model && set -- --model "$root/examples/models/demo" "$@"

exec "$build/examples/gpt-generate" "$@"
