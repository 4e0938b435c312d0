#!/usr/bin/env bash
# Runs models on emulated microcontrollers and writes what that took into docs/performance-cortex-m.md; `count.sh --where MODEL` prints where the
# cycles and instructions of a model on the M4F go. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

. ../../tests/install.sh
# `wants COMMAND PACKAGE …`, which has it.
wants() {
    command -v "$1" >/dev/null || install "${@:2}" || { echo "$1 is missing: install ${*:2}" >&2; exit 1; }
}
wants qemu-system-arm qemu-system-arm
wants arm-none-eabi-objdump binutils-arm-none-eabi
wants gcc gcc libc6-dev

cases=$(mktemp -d)
trap 'rm -rf "$cases"' EXIT
gcc -O2 -shared -fPIC -o "$cases/runs.so" runs.c

if [ "${1:-}" = --where ]; then
    model=${2:?--where wants the name of a model}
    ops=$(cd "$root" && cargo run -q --profile test -p kinglet-tests --example cortex_m "$cases")
    case=$cases/cortex-m/$model.case
    bits=$(awk -v case="$case" '$1 == case { print $2 }' <<<"$ops")
    [ -n "$bits" ] || { echo "there is no model $model: see tests/examples/cortex_m/main.rs" >&2; exit 1; }
    (cd "$root/targets/cortex-m/images" &&
        KINGLET_OPS=$bits KINGLET_BOARD=mps2-an386 "$root/tests/cortex-m/cargo" thumbv7em-none-eabihf build -q --release)
    program=${CARGO_TARGET_DIR:-$root/target}/cortex-m/thumbv7em-none-eabihf/release/kinglet-images
    python3 cycles.py "$model" "$program" "$case" "$cases/runs.so" --where
    exit
fi

{
    ../../tests/cortex-m/run "$cases"
    for program in "$cases"/cortex-m/*.elf; do
        python3 cycles.py "$(basename "$program" .elf)" "$program" "${program%.elf}.case" "$cases/runs.so"
    done
} | tee -a /dev/stderr | python3 count.py >../../docs/performance-cortex-m.md.new
mv ../../docs/performance-cortex-m.md.new ../../docs/performance-cortex-m.md
