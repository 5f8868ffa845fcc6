#!/bin/sh
# A customer-service assistant: a LoRA adapter of the embedded model learns 600 conversations of a made-up shop, and then answers.
#
#   examples/applications/customer_service.sh [DIRECTORY]
#
# It goes to DIRECTORY (build/applications/customer_service), which is made anew. On standard output: a chat, and of held-out conversations the
# loss of the answers, how often the right one of eight answers is the likeliest, and how often the answer that it writes is the right
# one word by word. Ends with status 1 where the figures of README.md are not reached.
#   examples/applications/customer_service.sh; build/release/examples/gpt-chat --model examples/models/demo \
#     --adapter build/applications/customer_service/adapter --chat-template plain        # to go on talking
set -eu
. "$(dirname "$(readlink -f "$0")")/programs.sh"
begin customer_service "$@"
programs finetune chat evaluate

# The first question and its answer of each held-out conversation.
first='s/^{"messages": \[{"role": "user", "content": "\([^"]*\)"}, {"role": "assistant", "content": "\([^"]*\)"}.*'
sed -n "$first/\\1/p" "$data/customer_service_test.jsonl" | sed 'a /reset' > "$out/questions.txt"
sed -n "$first/\\2/p" "$data/customer_service_test.jsonl" > "$out/expected.txt"

choose() {
  quietly "$bin/gpt-evaluate" choices --model "$demo" "$@" --file "$data/customer_service_choices.jsonl" --json
}
learn() {
  "$bin/gpt-finetune" --model "$demo" --use-peft --lora-r 16 --lora-alpha 32 --lora-target-modules all-linear \
    --train-file "$data/customer_service_train.jsonl" --validation-file "$data/customer_service_validation.jsonl" \
    --chat-template plain --per-device-train-batch-size 16 --logging-steps 20 --seed 1 --json "$@"
}
chat() { quietly "$bin/gpt-chat" --model "$demo" --adapter "$out/adapter" --chat-template plain --max-new-tokens 60; }

choose > "$out/choices_before.json"
# A step of no length: what the model is worth before it learns.
quietly learn --learning-rate 1e-30 --max-steps 1 --report-to none --output-dir "$out/before" > "$out/before.json"
learn --learning-rate 4e-3 --num-train-epochs 10 --warmup-ratio 0.1 --load-best-model-at-end --report-to html \
  --output-dir "$out/adapter" > "$out/after.json"
choose --adapter "$out/adapter" > "$out/choices_after.json"
chat < "$out/questions.txt" > "$out/answers.txt"

echo 'A chat:'
for line in 'Hello. My new teapot came in pieces.' 'What shall I do with the old one?' 'Thank you.'; do
  echo "$line" >> "$out/talk.txt"
done
chat < "$out/talk.txt" > "$out/talked.txt"
paste -d '\n' "$out/talk.txt" "$out/talked.txt" | sed 'N; s/^/> /'

echo "$(wc -l < "$out/expected.txt") held-out questions, none of which is worded as in the training:"
exact=$(paste -d '|' "$out/answers.txt" "$out/expected.txt" |
  awk -F '|' '$1 == $2 { ++n } END { printf "%.4f", n / NR }')
echo "before: loss of the answers $(number "$out/before.json" best_eval_loss) nats per token," \
  "right one of eight answers $(number "$out/choices_before.json" accuracy)"
require 'loss of the answers' "$(number "$out/after.json" best_eval_loss)" at-most 0.26
require 'right one of eight answers' "$(number "$out/choices_after.json" accuracy)" at-least 0.7
require 'answers written as they should be, word by word' "$exact" at-least 0.55
