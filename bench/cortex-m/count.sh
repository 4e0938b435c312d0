#!/usr/bin/env bash
# Runs models on emulated microcontrollers and writes what that took into docs/performance-cortex-m.md; `count.sh --where MODEL` prints where the
# instructions of a model on the M4F go. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
if [ "${1:-}" = --where ]; then
    model=${2:?--where wants the name of a model}
    cases=$(mktemp -d)
    trap 'rm -rf "$cases"' EXIT
    ops=$(cd "$root" && cargo run -q --profile test -p kinglet-tests --example cortex_m "$cases")
    case=$cases/cortex-m/$model.case
    bits=$(awk -v case="$case" '$1 == case { print $2 }' <<<"$ops")
    [ -n "$bits" ] || { echo "there is no model $model: see tests/examples/cortex_m.rs" >&2; exit 1; }
    (cd "$root/targets/cortex-m/images" &&
        KINGLET_OPS=$bits KINGLET_BOARD=mps2-an386 "$root/tests/cortex-m/cargo" thumbv7em-none-eabihf build -q --release)
    gcc -O2 -shared -fPIC -o "$cases/count.so" ../arm/count.c
    program=${CARGO_TARGET_DIR:-$root/target}/cortex-m/thumbv7em-none-eabihf/release/kinglet-images
    python3 where.py "$program" "$case" "$cases/count.so"
    exit
fi
../../tests/cortex-m/run | tee /dev/stderr | python3 count.py >../../docs/performance-cortex-m.md.new
mv ../../docs/performance-cortex-m.md.new ../../docs/performance-cortex-m.md
