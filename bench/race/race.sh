#!/usr/bin/env bash
# Races Kinglet against its peers on this machine and writes docs/performance.md: bench/race/race.sh [--quick]. See README.md.
set -euo pipefail
cd "$(dirname "$0")"

python=.venv/bin/python
[ -x $python ] || python3 -m venv .venv
# pnnx without what it depends on: only its binary is wanted, and the package wants PyTorch.
if ! cmp -s requirements.txt .venv/requirements.txt; then
    $python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
    $python -m pip install --quiet --disable-pip-version-check --no-deps pnnx
    cp requirements.txt .venv/requirements.txt
fi

cargo build --quiet --release -p kinglet-cli --manifest-path ../../Cargo.toml --target-dir ../../target
features=()
if [ -n "${TFLITEC_PREBUILT_PATH:-}" ]; then
    features=(tflitec)
    export LD_LIBRARY_PATH="$(dirname "$TFLITEC_PREBUILT_PATH")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
cargo build --quiet --release --manifest-path peers/Cargo.toml --target-dir peers/target "${features[@]/#/--features=}"
exec $python race.py "${features[@]/#/--}" "$@"
