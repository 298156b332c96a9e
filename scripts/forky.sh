# Sourced by the scripts beside it: programs of Debian's forky suite, unpacked and never installed.

readonly forky_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The address that the host's own apt uses for Debian's main archive.
archive_address() {
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' \
        | awk '$2 == "bookworm" && $3 == "main" { print $1; exit }'
}

# unpack_from_forky DIRECTORY PACKAGE...: download, have apt verify, and unpack into DIRECTORY.
unpack_from_forky() {
    local directory=$1 address apt package
    shift
    address=$(archive_address)
    if [[ -z $address ]]; then
        echo "$0: the host's apt sources name no archive with bookworm main; run apt-get update" >&2
        return 1
    fi
    apt=$directory.apt
    rm -rf "$apt" "$directory"
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,debs} "$directory"
    : > "$apt/status"
    cat > "$apt/archive.sources" <<SOURCES
Types: deb
URIs: $address
Suites: forky
Components: main
Signed-By: $forky_keyring
SOURCES
    cat > "$apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$apt/archive.sources";
Dir::Etc::sourceparts "-";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
// Mirrors of testing may lag; signatures are checked all the same.
Acquire::Check-Valid-Until "false";
CONF
    APT_CONFIG=$apt/apt.conf apt-get -q update
    (cd "$apt/debs" && APT_CONFIG=$apt/apt.conf apt-get -q download "$@")
    for package in "$apt"/debs/*.deb; do
        dpkg -x "$package" "$directory"
    done
    rm -rf "$apt"
}
