#!/bin/sh
# Personalised recommendation: the embedded model learns what 700 readers of a made-up library borrowed one after the other, as text, and ranks
# all books by how likely they come next.
#
#   examples/applications/recommendation.sh [DIRECTORY]
#
# The model goes to DIRECTORY (build/applications/recommendation), which is made anew. On standard output: where the last book of 200
# other readers stands in its ranking, beside the ranking by popularity, and what it recommends to one more. Ends with status 1 where the
# figures of README.md are not reached.
set -eu
. "$(dirname "$(readlink -f "$0")")/programs.sh"
begin recommendation "$@"
programs finetune recommend

"$bin/gpt-finetune" --model "$demo" --train-file "$data/readings_train.jsonl" \
  --validation-file "$data/readings_validation.jsonl" --learning-rate 1e-3 --num-train-epochs 6 \
  --per-device-train-batch-size 16 --warmup-ratio 0.1 --weight-decay 0.1 --logging-steps 50 --seed 1 \
  --load-best-model-at-end --report-to html --output-dir "$out/model"
rank() { "$bin/gpt-recommend" --model "$out/model" --items "$data/books.txt" "$@"; }
rank --file "$data/readings_test.jsonl" --popularity-file "$data/readings_train.jsonl" --json > "$out/test.json"

history="Death of a Doctor; The Knife; Death of a Lawyer;"
echo "To a reader of: $history"
rank --history "$history"
popularity() { sed 's/.*"popularity"//' "$out/test.json" > "$out/popularity.json"; number "$out/popularity.json" "$1"; }
echo "by popularity: hit rate@5 $(popularity hit_rate@5), NDCG@5 $(popularity ndcg@5)"
require 'hit rate@5' "$(number "$out/test.json" hit_rate@5)" at-least 0.55
require 'NDCG@5' "$(number "$out/test.json" ndcg@5)" at-least 0.42
require 'hit rate@5, times that by popularity' \
  "$(awk -v a="$(number "$out/test.json" hit_rate@5)" -v b="$(popularity hit_rate@5)" 'BEGIN { printf "%.2f", a / b }')" at-least 2.5
