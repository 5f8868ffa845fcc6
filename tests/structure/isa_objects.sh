#!/bin/sh
# isa_objects.sh BUILD_DIR NM [INSTRUMENTATION]: the objects compiled for one instruction set (kernels/isa_*.cpp) may
# define or use no weak symbol. The linker keeps one of several weak definitions for the whole program: a std::min that
# it took from the AVX-512 object would crash every other CPU.
set -eu
build=$1 nm=$2 instrumentation=${3:-}

if [ -n "$instrumentation" ]; then
  echo "skipped: instrumented code ($instrumentation) has weak symbols of its own"
  exit 77
fi
objects=$(find "$build" -path '*/kernels/isa_*.cpp.o')
if [ -z "$objects" ]; then
  echo "no kernels/isa_*.cpp.o under $build: every build has that of plain C++"
  exit 1
fi
status=0
for object in $objects; do
  # W w: weak, V v: weak data, u: unique in the whole process (a static variable of an inline function)
  weak=$("$nm" -C "$object" | grep -E '^[0-9a-fA-F ]+ [WwVvu] ' || true)
  if [ -n "$weak" ]; then
    echo "$object has weak symbols:"
    echo "$weak"
    status=1
  else
    echo "$object: none"
  fi
done
exit $status
