#!/bin/bash
# Debian's Podman beside Tare, to exchange image archives with: unpacked, never installed.
#
#   scripts/reference-podman.sh    download Debian's packages, verified by apt, and print the command
#
# What it stores goes where --root and --runroot of the command say; it reads the host's /etc/containers (package
# containers-common, which comes with skopeo).
set -euo pipefail

readonly packages=(podman libsubid4)
readonly checkout=$(cd "$(dirname "$0")/.." && pwd)
readonly tools=$checkout/.tools/reference-podman
readonly command=$tools/podman

if [[ ! -x $command ]]; then
    mkdir -p "$checkout/.tools" "$tools/debs"
    echo '*' > "$checkout/.tools/.gitignore"
    (cd "$tools/debs" && apt-get -q -o APT::Sandbox::User=root download "${packages[@]}" >&2)
    for package in "$tools"/debs/*.deb; do
        dpkg -x "$package" "$tools/root"
    done
    rm -rf "$tools/debs"
    cat > "$command.new" <<WRAPPER
#!/bin/sh
export LD_LIBRARY_PATH=$tools/root/usr/lib/$(uname -m)-linux-gnu
exec $tools/root/usr/bin/podman "\$@"
WRAPPER
    chmod 0755 "$command.new"
    mv "$command.new" "$command"
fi
echo "$command"
