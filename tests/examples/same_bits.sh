#!/bin/sh
# same_bits.sh GENERATE MODEL: law 1 from outside. A sampled continuation with its log-probabilities, printed so that they read
# back exactly, is the same for every instruction set that this CPU has, one thread or two, the weights mapped or read.
set -eu
generate=$1 model=$2

result() {
  "$generate" --model "$model" --prompt 'ROMEO: What light' --max-new-tokens 60 --do-sample --seed 3 --json --logprobs 5 "$@" \
    2> /dev/null | sed 's/"timing":{[^}]*},//; s/,"peak_rss_bytes":[0-9]*//'
}

expected=$(GPT_FORCE_ISA=scalar result --threads 1)
case $expected in *'"logprobs":[{'*) ;; *) echo "no log-probabilities in: $expected"; exit 1 ;; esac
for isa in scalar avx2 avx512; do
  status=0
  GPT_FORCE_ISA=$isa "$generate" --model "$model" --prompt a --max-new-tokens 1 > /dev/null 2>&1 || status=$?
  if [ $status -ne 0 ]; then echo "skipped: this CPU has no $isa"; continue; fi
  for options in '--threads 1' '--threads 2' '--threads 2 --no-mmap'; do
    # shellcheck disable=SC2086  # the options are words
    if [ "$(GPT_FORCE_ISA=$isa result $options)" != "$expected" ]; then
      echo "$isa $options: other bits than scalar --threads 1"
      exit 1
    fi
    echo "$isa $options: the same bits"
  done
done
