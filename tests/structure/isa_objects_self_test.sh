#!/bin/sh
# Runs isa_objects.sh where there are no objects, and where nm, which is a stand-in, shows a weak symbol in one, or none.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

# expect STATUS WHAT SYMBOL: what isa_objects.sh ends with where nm prints the line.
expect() {
  printf '#!/bin/sh\necho "%s"\n' "$3" > "$tree/nm" && chmod +x "$tree/nm"
  status=0
  output=$(sh "$here/isa_objects.sh" "$tree/build" "$tree/nm") || status=$?
  [ $status = "$1" ] && return
  echo "$2: isa_objects.sh ends with $status, expected $1:"
  echo "$output"
  failed=1
}
mkdir -p "$tree/build/kernels"
expect 1 'no objects' ''
: > "$tree/build/kernels/isa_scalar.cpp.o"
expect 0 'no weak symbol' '0000 t f()'
expect 1 'a weak symbol' '0000 W std::min()'
exit $failed
