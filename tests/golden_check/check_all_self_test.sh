#!/bin/sh
# Runs check_all.sh with a stand-in for golden_check, which prints the quantities it is given, and no others.
. "$(dirname "$0")/../support/script_test.sh"

# expect STATUS QUANTITY...: what check_all.sh ends with where these are skipped, and of the training the steps from 5 on.
expect() {
  expected=$1
  shift
  {
    echo '#!/bin/sh'
    echo 'case "$*" in *--train-steps*) quantities=; for i in 5 6 39; do quantities="$quantities steps[$i].loss"; done ;;'
    echo "  *) quantities='$*' ;;"
    echo 'esac'
    echo "printf 'folder\tlogits\t0\t1\t$how\n'"
    echo "for quantity in \$quantities; do printf 'folder\t%s\t-\t-\tskip\n' \"\$quantity\"; done"
  } > "$tree/golden_check"
  chmod +x "$tree/golden_check"
  expect_status "$expected" "skipped: $*; $steps steps of $isa" \
    env GPT_GOLDENS= GPT_FORCE_ISA=$isa sh "$here/check_all.sh" "$tree/golden_check" "$tree" "$steps"
}
isa=avx2 steps=5 how=ok
expect 0
expect 0 val_loss val_tokens
expect 1 val_loss logits_kv
expect 1 'steps[7].loss'  # of a folder that records none
how=skip
expect 1  # nothing is compared
how=ok steps=200
expect 1
isa=scalar  # makes 5 steps at most
expect 0
exit $failed
