#!/bin/sh
# check_all.sh GOLDEN_CHECK ROOT STEPS: golden_check over the committed set of the source tree ROOT and, on the fastest instruction
# set, over the folders that GPT_GOLDENS=DIR:DIR... names, those with the tinyshakespeare.txt that lies in them or in a parent.
# Without that text, and so without the losses over it, where GPT_GOLDENS_LOSSES=no. Shows what is not well, and the sums. Of the
# committed set only the named quantities may be skipped, or a rule that is lost would pass for a success. Ends with 77 when
# GPT_FORCE_ISA asks for what this CPU lacks.
set -u
program=$1
root=$2
most_steps=$3  # of a recorded training run
worst=0

# check ARGUMENT...
check() {
  lines=$("$program" "$@")
  status=$?
  echo "golden_check $*"
  printf '%s\n' "$lines" | grep -v -e '	ok$' -e '	skip$' -e '	input$'
  [ "$status" -eq 77 ] && exit 77
  [ "$status" -gt "$worst" ] && worst=$status
}

# only_skips CONDITION: the last check compared something, and skipped no quantity but those that the condition of awk is true of:
# by `name` and, where it is a recorded step's, the number `step`.
only_skips() {
  printf '%s\n' "$lines" | awk -F '\t' '
    { name = $2; step = name ~ /^steps\[/ ? substr(name, 7) + 0 : -1 }
    $5 == "ok" { compared = 1 }
    $5 == "skip" && !('"$1"') { print $1 ": " name " is skipped"; bad = 1 }
    END { if (!compared) print "nothing is compared"; exit bad || !compared }' && return
  [ "$worst" -gt 0 ] || worst=1
}

# corpus_of DIR: the text beside or above it
corpus_of() {
  dir=$(cd "$1" && pwd -P) || return
  while :; do
    [ -f "$dir/tinyshakespeare.txt" ] && echo "$dir/tinyshakespeare.txt" && return
    [ "$dir" = / ] && return
    dir=$(dirname "$dir")
  done
}

golden=$root/tests/golden
shipped=$root/examples/models/demo
check --model "$shipped" --tokenizer "$shipped" "$golden/models" "$golden/sampling" "$golden/tokenizer" \
  "$golden/demo-model"
only_skips 'name == "val_loss" || name == "val_tokens"'
# All instruction sets give the same bits, as other tests see. What takes a minute or more the fastest of them alone computes;
# plain C++ is slow, and some steps tell enough.
fastest=scalar
grep -qw avx2 /proc/cpuinfo && fastest=avx2
grep -qw avx512vl /proc/cpuinfo && fastest=avx512
steps=40
[ "$most_steps" -lt $steps ] && steps=$most_steps
[ "${GPT_FORCE_ISA:-}" = scalar ] && steps=5
check --train-steps $steps --corpus "$golden/training/corpus.txt" "$golden/training"
only_skips "step >= $steps"

[ "${GPT_FORCE_ISA:-$fastest}" = "$fastest" ] || exit "$worst"
IFS=:
set -f
set -- ${GPT_GOLDENS:-}
unset IFS
for dir; do
  [ -n "$dir" ] || continue
  corpus=
  [ "${GPT_GOLDENS_LOSSES:-}" = no ] || corpus=$(corpus_of "$dir")
  if [ -n "$corpus" ]; then check --train-steps "$most_steps" --corpus "$corpus" "$dir"; else check "$dir"; fi
done
exit "$worst"
