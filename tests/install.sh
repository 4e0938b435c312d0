# To be sourced. `install PACKAGE …` by the system's package manager, where it may; its status says whether that went well.
install() {
    command -v apt-get >/dev/null || return 1
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || return 1
        sudo=(sudo -n)
    fi
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -q "$@" >/dev/null 2>&1 && return
    "${sudo[@]}" apt-get update -q >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -q "$@" >/dev/null 2>&1
}
