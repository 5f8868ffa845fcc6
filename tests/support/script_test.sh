# Sourced by the tests of scripts: the test's folder, an empty one that is removed at its end, and what it exits with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

# expect_status STATUS WHAT COMMAND...: notes, and says, where the command ends with another status.
expect_status() {
  expected=$1 what=$2
  shift 2
  status=0
  output=$("$@") || status=$?
  [ $status = "$expected" ] && return
  echo "$what: ends with $status, expected $expected:"
  echo "$output"
  failed=1
}
