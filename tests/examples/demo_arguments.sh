#!/bin/sh
# demo_arguments.sh DEMO [GENERATE]: what demo.sh adds to the arguments that it is given. It runs in a tree whose tools and program are
# stand-ins; the program prints its arguments, each in brackets.
set -eu
demo=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/examples" "$root/third_party" "$root/build/demo/examples"
cp "$demo" "$root/examples/demo.sh"
: > "$root/build/demo/build.ninja"
echo "CMAKE_HOME_DIRECTORY:INTERNAL=$root" > "$root/build/demo/CMakeCache.txt"
stand_in() { printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1"; }
stand_in "$root/third_party/install.sh" ':'
stand_in "$root/bin/ninja" 'echo "ninja: no work to do."'
stand_in "$root/build/demo/examples/gpt-generate" 'printf "[%s]" "$@"'
PATH=$root/bin:$PATH

failed=0
expect() {
  expected=$1
  shift
  found=$(sh "$root/examples/demo.sh" "$@" | sed "s|$root|ROOT|")
  [ "$found" = "$expected" ] && return
  echo "demo.sh $*"
  echo "  gives    $found"
  echo "  expected $expected"
  failed=1
}
model='[--model][ROOT/examples/models/demo]'
sampling='[--do-sample][--temperature][0.8][--top-k][50]'
rest='[--max-new-tokens][150][--seed][1]'
expect "${model}[--prompt][ROMEO:]$sampling$rest"
expect "$model$sampling${rest}[--prompt][A b]" --prompt 'A b'
expect "$model$sampling${rest}[--input-ids=1,2]" --input-ids=1,2
expect "${model}[--prompt][ROMEO:][--max-new-tokens][150][--seed][1][--no-do-sample]" --no-do-sample
expect "[--prompt][ROMEO:][--temperature][0.8][--json][--model][m][--max-length][9][--seed=2][--do-sample][--top-k][5]" \
  --json --model m --max-length 9 --seed=2 --do-sample --top-k 5
# What is drawn by another strategy, or not at all, is left to it.
expect "${model}[--prompt][ROMEO:][--do-sample][--temperature][0.8]${rest}[--mirostat][2]" --mirostat 2
for strategy in --penalty-alpha=0.5 --num-beams=4 --num-beam-groups=2; do
  expect "${model}[--prompt][ROMEO:]${rest}[$strategy]" $strategy
done
expect "${model}[--prompt][ROMEO:]${rest}[--num-beams][4][--do-sample]" --num-beams 4 --do-sample
# A value is no option, whatever it looks like.
expect "$model$sampling${rest}[--prompt][--seed]" --prompt --seed
expect "$model$sampling${rest}[--prompt][--no-do-sample]" --prompt --no-do-sample
expect "$model$sampling${rest}[--prompt=--model][--no-mmap]" --prompt=--model --no-mmap
# A flag has no value: the option behind it is one. $2, when it is there, is generate, which names its flags in --help.
if [ -n "${2:-}" ]; then
  flags=$("$2" --help | sed -n 's/^  \(-h,\)\{0,1\}\(--[a-z-]*\)\(,--no-[a-z-]*\)\{0,1\}\( .*\)\{0,1\}$/\2\3\4/p' |
    sed -n 's/^\([^ ]*\)$/\1/p; s/^\([^ ]*\)  .*/\1/p' | tr , ' ')
  case " $flags " in *json-object*) ;; *) echo "no flags found in --help: $flags" && failed=1 ;; esac
  for flag in $flags; do
    case $flag in --do-sample | --no-do-sample | --help | --version) continue ;; esac
    expect "${model}[--prompt][ROMEO:]$sampling[--max-new-tokens][150][$flag][--seed][3]" $flag --seed 3
  done
fi
exit $failed
