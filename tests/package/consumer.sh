#!/bin/sh
# consumer.sh SOURCE BUILD WORK CMAKE CXX GENERATOR LIBDIR: what somebody who installed libgpt does next. Installs BUILD into
# WORK/installed, moves it away (nothing in it may remember where it was), and builds and runs examples/consumer through
# find_package and through pkg-config. SOURCE's headers are out of reach of both.
set -eu
source=$1 build=$2 work=$3 cmake=$4 cxx=$5 generator=$6 libdir=$7

rm -rf "$work"
mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/installed" > "$work/install.log"
mv "$work/installed" "$work/moved"
prefix=$work/moved
cp -R "$source/examples/consumer" "$work/consumer"

if grep -rn -e "$source" -e "$work/installed" "$prefix/$libdir/cmake" "$prefix/$libdir/pkgconfig"; then
  echo 'the installed package names directories of the build'
  exit 1
fi
if grep -rln nlohmann "$prefix/include" "$prefix/$libdir/cmake" "$prefix/$libdir/pkgconfig"; then
  echo 'a consumer would need nlohmann_json'
  exit 1
fi

run() {
  "$1" "$source/examples/models/demo" ROMEO: > "$work/output" || { echo "$1 failed"; cat "$work/output"; exit 1; }
  grep "I'll tell thee" "$work/output"  # the greedy continuation in tests/golden/demo-model
  if "$1" "$work/nowhere" ROMEO: 2> "$work/output"; then echo 'a missing model went unnoticed'; exit 1; fi
  grep 'error: .*nowhere' "$work/output"
}

echo '--- find_package'
"$cmake" -S "$work/consumer" -B "$work/by_cmake" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$prefix"
"$cmake" --build "$work/by_cmake"
run "$work/by_cmake/consumer"

echo '--- find_package of a version that is not there'
sed 's/find_package(gpt 0.1 /find_package(gpt 0.0 /' "$source/examples/consumer/CMakeLists.txt" > "$work/consumer/CMakeLists.txt"
if "$cmake" -S "$work/consumer" -B "$work/other_version" -G "$generator" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$prefix" > "$work/output" 2>&1; then
  echo 'find_package(gpt 0.0) accepted another minor version'
  exit 1
fi
grep -q 'considered but not accepted' "$work/output" || { cat "$work/output"; exit 1; }

echo '--- pkg-config'
export PKG_CONFIG_PATH="$prefix/$libdir/pkgconfig"
pkg-config --print-errors --exists 'gpt >= 0.1'
flags=$(pkg-config --cflags --libs gpt)
echo "$flags"
# shellcheck disable=SC2086  # the flags are words
"$cxx" -std=c++20 "$work/consumer/main.cpp" $flags -o "$work/by_pkg_config"
LD_LIBRARY_PATH=$prefix/$libdir run "$work/by_pkg_config"

for program in "$prefix"/bin/gpt-*; do
  [ -e "$program" ] || continue
  echo "--- $(basename "$program") --help"
  "$program" --help > "$work/output" || { cat "$work/output"; exit 1; }
done
