#!/bin/sh
# Installs the Debian packages that libgpt is built from, those that are missing, as root or through sudo.
set -eu

usage() {
  cat <<'USAGE'
third_party/install.sh [--demo | --tests | --all] [--print | --check]

What for:
  --demo    the library and its programs
  --tests   these, the tests and the benchmarks (the default)
  --all     these, clang with its sanitizers, libFuzzer and OpenMP, and clang-format

What to do, instead of installing what is missing:
  --print   list all the packages, in one line
  --check   list the missing ones, in one line, and exit 1 if there are any
USAGE
}

# group  package  what shows that it is there: a command, or a header below an include directory (contains a dot)
packages() {
  cat <<'TABLE'
demo  g++                g++
demo  cmake              cmake
demo  ninja-build        ninja
demo  pkg-config         pkg-config
demo  nlohmann-json3-dev nlohmann/json.hpp
demo  libutf8proc-dev    utf8proc.h
demo  libre2-dev         re2/re2.h
demo  libcli11-dev       CLI/CLI.hpp
tests libsentencepiece-dev sentencepiece_processor.h
tests libgtest-dev       gtest/gtest.h
tests libgmock-dev       gmock/gmock.h
tests libeigen3-dev      eigen3/Eigen/src/Core/Map.h
tests libbenchmark-dev   benchmark/benchmark.h
tests libsimde-dev       simde/x86/avx512.h
tests python3            python3
all   clang              clang++
all   clang-format       clang-format
all   llvm               llvm-symbolizer
all   libclang-rt-dev    =
all   libomp-dev         =
TABLE
}

say() { echo "third_party/install.sh: $*" >&2; }

# is_there PACKAGE WITNESS: asks for the thing itself, so that one from elsewhere (a newer CMake, headers in /usr/local)
# counts; = asks dpkg, for files whose directory carries a version.
is_there() {
  case $2 in
    =) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ] ;;
    *.*)
      for directory in /usr /usr/local $(echo "${CMAKE_PREFIX_PATH:-}" | sed 's|[;:]| |g'); do
        [ -e "$directory/include/$2" ] && return 0
      done
      return 1
      ;;
    *) command -v "$2" > /dev/null ;;
  esac
}

groups='demo tests'
action=install
for argument in "$@"; do
  case $argument in
    --demo) groups='demo' ;;
    --tests) groups='demo tests' ;;
    --all) groups='demo tests all' ;;
    --print | --check) action=${argument#--} ;;
    -h | --help) usage; exit 0 ;;
    *) say "unknown argument $argument"; usage >&2; exit 2 ;;
  esac
done

wanted=$(packages | while read -r group package witness; do
  case " $groups " in *" $group "*) echo "$package $witness" ;; esac
done)

if [ "$action" = print ]; then
  echo "$wanted" | cut -d ' ' -f 1 | paste -s -d ' '
  exit 0
fi

missing=$(echo "$wanted" | while read -r package witness; do
  is_there "$package" "$witness" || printf '%s ' "$package"
done)
missing=${missing% }

if [ "$action" = check ]; then
  [ -z "$missing" ] && exit 0
  echo "$missing"
  exit 1
fi
if [ -z "$missing" ]; then
  say 'everything is installed'
  exit 0
fi

if ! command -v apt-get > /dev/null; then
  say "would install these Debian packages, but there is no apt-get here: $missing"
  say 'Install what they contain in this system'"'"'s way, then run this again.'
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
  as_root=sudo  # asks for the password where there is somebody to ask
else
  say "would install these Debian packages, but is neither root nor may use sudo: $missing"
  say "Let an administrator run: apt-get install --no-install-recommends $missing"
  exit 1
fi

# shellcheck disable=SC2086  # words on purpose: packages, and a sudo that may be absent
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" >&2; }
# shellcheck disable=SC2086
install() { apt install -y --no-install-recommends $missing; }

say "installing $missing"
# shellcheck disable=SC2086
if apt-cache show $missing > /dev/null 2>&1 && install; then
  exit 0
fi
say 'the package lists are missing or old: updating them'  # a fresh container has none
if ! apt update || ! install; then
  say "apt-get failed (see above); still needed: $missing"
  exit 1
fi
