#!/usr/bin/env bash
# Runs models on emulated microcontrollers and writes what that took into docs/performance-cortex-m.md. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
../../tests/cortex-m/run | tee /dev/stderr | python3 count.py >../../docs/performance-cortex-m.md.new
mv ../../docs/performance-cortex-m.md.new ../../docs/performance-cortex-m.md
