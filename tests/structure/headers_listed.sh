#!/bin/sh
# headers_listed.sh ROOT HEADER...: every file under ROOT/include must be among the headers that src/*/CMakeLists.txt list;
# one that is not would neither be checked nor installed.
set -eu
root=$1
shift
status=0
for header in $(find "$root/include" -type f | LC_ALL=C sort); do
  case " $* " in
    *" $header "*) ;;
    *) echo "$header: not listed in a gpt_headers() of src/*/CMakeLists.txt"; status=1 ;;
  esac
done
exit $status
