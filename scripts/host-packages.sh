#!/bin/bash
# Install what Tare needs from Debian's archive: only what is missing, through apt and nothing else.
#
#   scripts/host-packages.sh [--for run|test]     `test` (the default) adds what the tests need
#
# Run as root on Debian 12. When everything is there it ends at once, without calling apt.
set -euo pipefail

readonly run_packages=(
    runc crun conmon tini libnftables1 gpgv debian-archive-keyring ca-certificates iproute2 nftables util-linux python3-venv
    s3fs # volumes in buckets
    git openssh-client # builds take sources from git, and keys from an agent
)
# The tests compile small programs, make images of busybox, sign an archive of their own, drive Docker's own
# command line, copy volumes on file systems with reflinks and ACLs, run a journal, and transfer images to and from a
# registry (with users: htpasswd; with TLS: openssl), from which a foreign client reads them too.
readonly test_packages=(
    gcc g++ libc6-dev busybox-static gnupg procps acl btrfs-progs e2fsprogs xfsprogs systemd
    skopeo apache2-utils openssl
)

readonly checkout=$(cd "$(dirname "$0")/.." && pwd)
readonly tools=$checkout/.tools
source "$checkout/scripts/forky.sh"

fail() { echo "host-packages: $*" >&2; exit 1; }

installed() { [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# A Python with venv may come from elsewhere; Debian's package is needed only where there is none.
needed() {
    case $1 in
        python3-venv) ! "${PYTHON:-python3}" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ;;
        *) ! installed "$1" ;;
    esac
}

missing() {
    local package
    for package in "$@"; do
        if needed "$package"; then
            echo "$package"
        fi
    done
}

refresh_index() {
    [[ -n ${index_fresh:-} ]] || apt-get -q update
    index_fresh=yes
}

install_packages() {
    refresh_index
    echo "host-packages: installing $*"
    # No service may start: Tare uses programs and libraries only.
    DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "$@"
}

# Docker's command line is a client for the tests, which know the words of version 28; no daemon is installed or started.
docker_is_recent() {
    local version
    version=$("$1" --version 2> /dev/null) && [[ $version =~ version\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 28))
}

unpack_docker_cli() {
    if docker_is_recent docker || docker_is_recent "$tools/bin/docker"; then
        return
    fi
    mkdir -p "$tools/bin"
    echo '*' > "$tools/.gitignore"
    refresh_index
    echo "host-packages: unpacking Docker's command line into $tools"
    unpack_from_forky "$tools/docker-cli" docker-cli
    install -m 0755 "$tools/docker-cli/usr/bin/docker" "$tools/bin/docker"
    rm -rf "$tools/docker-cli"
}

# Installed, the registry would be a service that listens on the host.
unpack_registry() {
    local place=$tools/registry
    if command -v docker-registry > /dev/null || [[ -x $tools/bin/docker-registry ]]; then
        return
    fi
    rm -rf "$place"
    mkdir -p "$tools/bin" "$place"
    echo '*' > "$tools/.gitignore"
    refresh_index
    echo "host-packages: unpacking docker-registry into $tools"
    (cd "$place" && apt-get -q -o APT::Sandbox::User=root download docker-registry && dpkg -x docker-registry_*.deb root)
    install -m 0755 "$place/root/usr/bin/docker-registry" "$tools/bin/docker-registry"
    rm -rf "$place"
}

main() {
    local group=test wanted
    case $# in
        0) ;;
        2) [[ $1 == --for ]] || fail "unknown option $1 (use --for run or --for test)"; group=$2 ;;
        *) fail "usage: host-packages.sh [--for run|test]" ;;
    esac
    case $group in
        run) wanted=("${run_packages[@]}") ;;
        test) wanted=("${run_packages[@]}" "${test_packages[@]}") ;;
        *) fail "unknown group $group (use run or test)" ;;
    esac
    mapfile -t wanted < <(missing "${wanted[@]}")
    if [[ ${#wanted[@]} -gt 0 ]]; then
        command -v apt-get > /dev/null || fail "this is not Debian; install by other means: ${wanted[*]}"
        [[ $(id -u) == 0 ]] || fail "must run as root to install: ${wanted[*]}"
        install_packages "${wanted[@]}"
    fi
    if [[ $group == test ]]; then
        unpack_docker_cli
        unpack_registry
    fi
}

main "$@"
