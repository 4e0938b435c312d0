#!/usr/bin/env bash
# Counts the instructions that Kinglet executes on AArch64, under emulation, and writes docs/performance-arm.md:
# bench/arm/count.sh [MODEL ...]. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

for tool in qemu-aarch64:qemu-user llvm-mca-19:llvm-19 gcc:gcc; do
    command -v "${tool%%:*}" >/dev/null || { echo "${tool%%:*} is not there: install ${tool#*:}" >&2; exit 1; }
done
cargo build --quiet --release -p kinglet-cli --manifest-path "$root/Cargo.toml" --target-dir "$root/target"
(cd "$root" && CARGO_PROFILE_RELEASE_DEBUG=0 tests/aarch64/cargo build --quiet --release -p kinglet-native --example run)
mkdir -p .cache
gcc -O2 -shared -fPIC -o .cache/count.so count.c
exec python3 count.py "$@"
