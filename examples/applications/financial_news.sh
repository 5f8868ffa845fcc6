#!/bin/sh
# Sentiment of financial news: a classifier learns 600 headlines, is measured on held-out ones, and says which words an answer is due to.
#
#   examples/applications/financial_news.sh [DIRECTORY]
#
# The classifier goes to DIRECTORY (build/applications/financial_news), which is made anew, with report.html and report.json of the training,
# test.html and test.json of the held-out headlines, and explanation.html. Ends with status 1 where the figures of README.md are not reached.
set -eu
. "$(dirname "$(readlink -f "$0")")/programs.sh"
begin financial_news "$@"
programs classify explain

"$bin/gpt-classify" train --model "$demo" --train-file "$data/financial_news_train.csv" \
  --validation-file "$data/financial_news_validation.csv" --output-dir "$out" --logging-steps 100
"$bin/gpt-classify" evaluate --model "$out" --test-file "$data/financial_news_test.csv" --json > "$out/test.json"
"$bin/gpt-classify" evaluate --model "$out" --test-file "$data/financial_news_test.csv" --report "$out/test.html" 2>&1

headline='Kestrel Foods lowers its forecast after weak sales in Calgary'
"$bin/gpt-classify" predict --model "$out" --text "$headline"
"$bin/gpt-explain" --model "$out" --classifier --prompt "$headline" --steps 128 \
  --output "$out/explanation.html" --json > "$out/explanation.json"
echo 'What each word adds to the log-probability of that in the network (explanation.html shows its parts in colours):'
grep -o '"text":"[^"]*","score":[-0-9.e]*' "$out/explanation.json" | sed 's/"text":"\(.*\)","score":\(.*\)/\2:\1/' |
  awk -F : '
    /: / && NR > 1 { printf "%8.3f  %s\n", score, word; score = 0; word = "" }
    { score += $1; text = substr($0, length($1) + 2); sub(/^ /, "", text); word = word text }
    END { printf "%8.3f  %s\n", score, word }'

require 'accuracy' "$(number "$out/test.json" accuracy)" at-least 0.85
