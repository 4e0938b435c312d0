# To be sourced, with `root` the folder of the repository. Programs of this machine that stages need, all at once and with the features
# that ./test tests with (it names them): what is built for one of them, or was for the tests, is built for all.
host_programs() {
    (cd "$root" && cargo build -q --profile test --workspace ${KINGLET_FEATURES:+--features "$KINGLET_FEATURES"} \
        --bin kinglet --example onnx_conformance --example cortex_m)
}
# Cargo takes a relative folder from where it is started, which is `root`.
host_folder=$(cd "$root" && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/debug
