#!/bin/sh
# same_bits.sh GENERATE EXPLAIN QUANTIZE MODEL: law 1 from outside. A sampled continuation with its log-probabilities, also of the model
# quantized, and what explains a token (integrated gradients, logit lens, rollout of the attentions), printed so that they read back exactly,
# are the same for every instruction set that this CPU has, one thread or two, the weights mapped or read.
set -eu
generate=$1 explain=$2 quantize=$3 model=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

generated() {
  "$generate" --model "$model" --prompt 'ROMEO: What light' --max-new-tokens 60 --do-sample --seed 3 --json --logprobs 5 "$@" \
    2> /dev/null | sed 's/"timing":{[^}]*},//; s/,"peak_rss_bytes":[0-9]*//'
}
# quantized FORMAT THREADS: a prompt of many rows, which have kernels of their own
quantized() {
  "$generate" --model "$work/$1" --prompt 'Before we proceed any further, hear me speak. You are all resolved rather to die than to famish?' \
    --max-new-tokens 8 --json --logprobs 5 --threads "$2" 2> /dev/null | sed 's/"timing":{[^}]*},//; s/,"peak_rss_bytes":[0-9]*//'
}
explained() {
  "$explain" --model "$model" --prompt 'ROMEO: What light' --json --steps 3 --top 4 "$@" 2> /dev/null
}
compare() {
  if [ "$2" != "$3" ]; then
    echo "$1: other bits than scalar --threads 1"
    exit 1
  fi
  echo "$1: the same bits"
}

expected=$(GPT_FORCE_ISA=scalar generated --threads 1)
case $expected in *'"logprobs":[{'*) ;; *) echo "no log-probabilities in: $expected"; exit 1 ;; esac
explanation=$(GPT_FORCE_ISA=scalar explained --threads 1)
case $explanation in *'"rollout":0.'*'"logit_lens":'*) ;; *) echo "no explanation: $explanation"; exit 1 ;; esac
for format in int8 int4; do
  "$quantize" --model "$model" --output-dir "$work/$format" --format $format > /dev/null 2>&1
  GPT_FORCE_ISA=scalar quantized $format 1 > "$work/$format.expected"
  grep -q '"logprobs":\[{' "$work/$format.expected" || { echo "no log-probabilities with $format"; exit 1; }
done
for isa in scalar avx2 avx512 avx512_vnni amx; do
  status=0
  GPT_FORCE_ISA=$isa "$generate" --model "$model" --prompt a --max-new-tokens 1 > /dev/null 2> "$work/errors" || status=$?
  if [ $status -eq 1 ] && grep GPT_FORCE_ISA "$work/errors"; then echo "skipped: $isa"; continue; fi
  if [ $status -ne 0 ]; then echo "$isa: exit status $status"; cat "$work/errors"; exit 1; fi
  for format in int8 int4; do
    for threads in 1 2; do
      compare "$format, $isa --threads $threads" "$(GPT_FORCE_ISA=$isa quantized $format $threads)" "$(cat "$work/$format.expected")"
    done
  done
  case $isa in avx512_*|amx) continue ;; esac  # all else is as with avx512
  for options in '--threads 1' '--threads 2' '--threads 2 --no-mmap'; do
    # shellcheck disable=SC2086  # the options are words
    compare "generate, $isa $options" "$(GPT_FORCE_ISA=$isa generated $options)" "$expected"
  done
  for threads in 1 2; do
    compare "explain, $isa --threads $threads" "$(GPT_FORCE_ISA=$isa explained --threads $threads)" "$explanation"
  done
done
