#!/bin/sh
# Runs isa_objects.sh where there are no objects, and where nm, which is a stand-in, shows a weak symbol in one, or none.
. "$(dirname "$0")/../support/script_test.sh"

# expect STATUS WHAT SYMBOL: what isa_objects.sh ends with where nm prints the line.
expect() {
  printf '#!/bin/sh\necho "%s"\n' "$3" > "$tree/nm" && chmod +x "$tree/nm"
  expect_status "$1" "$2" sh "$here/isa_objects.sh" "$tree/build" "$tree/nm"
}
mkdir -p "$tree/build/kernels"
expect 1 'no objects' ''
: > "$tree/build/kernels/isa_scalar.cpp.o"
expect 0 'no weak symbol' '0000 t f()'
expect 1 'a weak symbol' '0000 W std::min()'
exit $failed
