#!/usr/bin/env bash
# The device `wgpu` without a graphics card: on the software driver of Mesa (llvmpipe), by which any machine has a Vulkan.
#
#   xtask/wgpu.sh install   installs the driver where apt-get can; exit code 3 where it cannot
#   xtask/wgpu.sh test      builds the feature `wgpu`, trains and answers on the driver, compares with `flex`, and trains again
#
# Needs mesa-vulkan-drivers (Debian: `apt-get install -y mesa-vulkan-drivers`). Exit code 3: not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
command=${1:?install or test}

# The file that names the driver to Vulkan's loader.
driver() {
    local file
    for file in {/usr/local/share,/usr/share,/etc}/vulkan/icd.d/lvp_icd*.json; do
        [ -e "$file" ] && echo "$file" && return
    done
    return 1
}

case $command in
install)
    driver > /dev/null && exit 0
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get update -qq > /dev/null 2>&1 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mesa-vulkan-drivers > /dev/null 2>&1 && driver > /dev/null && exit 0
    fi
    echo "wgpu.sh: mesa-vulkan-drivers is not installed, and cannot be" >&2
    exit 3
    ;;
test)
    VK_DRIVER_FILES=$(driver) || { echo "wgpu.sh: mesa-vulkan-drivers is not installed" >&2; exit 3; }
    # Loaders before 1.3.207 have the older name only. Whatever cards the machine has, this driver is the one that is found.
    export VK_DRIVER_FILES VK_ICD_FILENAMES=$VK_DRIVER_FILES
    # Without a desktop the driver looks for one and says so, again and again.
    if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
        XDG_RUNTIME_DIR=$(mktemp -d)
        export XDG_RUNTIME_DIR
        trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
    fi
    cargo test -p s3t --features wgpu --test devices
    ;;
*)
    echo "wgpu.sh: $command? install or test" >&2
    exit 2
    ;;
esac
