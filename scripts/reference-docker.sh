#!/bin/bash
# Docker 28.5.2 beside Tare, for benchmarks and comparisons of behaviour: unpacked, never installed.
#
#   scripts/reference-docker.sh fetch    download Debian's packages, verified by apt, and unpack them
#   scripts/reference-docker.sh start    fetch if needed, start dockerd, print its socket
#   scripts/reference-docker.sh stop     end it and remove what it made (images stay)
#   scripts/reference-docker.sh status   print the socket if it answers
#
# dockerd has its own network namespace, firewall, data, socket and cgroup parent, so that it cannot disturb
# the host or an engine under test. Run as root on Debian 12; runc is the host's.
set -euo pipefail

readonly packages=(docker.io docker-cli containerd docker-buildx docker-compose)
# What dockerd sets up its bridge with, from the host's own suite, as the host may not have it.
readonly firewall_packages=(
    iptables libxtables12 libip4tc2 libip6tc2 libnfnetlink0 libnetfilter-conntrack3 libnftnl11 libmnl0
)
readonly checkout=$(cd "$(dirname "$0")/.." && pwd)
source "$checkout/scripts/forky.sh"
readonly tools=$checkout/.tools/reference-docker
readonly root=$tools/root
readonly firewall=$tools/firewall
readonly state=$tools/state
readonly run=/run/tare-reference-docker
readonly socket=$run/docker.sock
readonly pidfile=$run/docker.pid
readonly netns=tare-reference
readonly table=tare_reference
readonly host_address=10.213.0.1
readonly inner_address=10.213.0.2

fail() { echo "reference-docker: $*" >&2; exit 1; }

fetch() {
    mkdir -p "$tools"
    echo '*' > "$checkout/.tools/.gitignore"
    [[ -x $root/usr/sbin/dockerd && -x $root/usr/bin/docker ]] || unpack_from_forky "$root" "${packages[@]}"
    command -v iptables > /dev/null || [[ -x $firewall/bin/iptables ]] || fetch_firewall
}

# iptables in two wrappers that find its libraries; nothing else sees them.
fetch_firewall() {
    local debs=$tools/firewall.debs package name libraries=$firewall/usr/lib/$(uname -m)-linux-gnu
    rm -rf "$firewall" "$debs"
    mkdir -p "$firewall/bin" "$debs"
    (cd "$debs" && apt-get -q -o APT::Sandbox::User=root download "${firewall_packages[@]}")
    for package in "$debs"/*.deb; do
        dpkg -x "$package" "$firewall"
    done
    rm -rf "$debs"
    for name in ip6tables iptables; do
        cat > "$firewall/bin/$name" <<WRAPPER
#!/bin/sh
export LD_LIBRARY_PATH=$libraries XTABLES_LIBDIR=$libraries/xtables
exec $firewall/usr/sbin/xtables-nft-multi $name "\$@"
WRAPPER
        chmod 0755 "$firewall/bin/$name"
    done
}

running() { [[ -s $pidfile ]] && kill -0 "$(<"$pidfile")" 2>/dev/null; }

docker() { "$root/usr/bin/docker" -H "unix://$socket" "$@"; }

make_network() {
    [[ -e /run/netns/$netns ]] && return
    ip netns add "$netns"
    ip link add tare-ref0 type veth peer name eth0 netns "$netns"
    ip addr add "$host_address/30" dev tare-ref0
    ip link set tare-ref0 up
    nsenter --net="/run/netns/$netns" sh -euc "
        ip link set lo up
        ip addr add $inner_address/30 dev eth0
        ip link set eth0 up
        ip route add default via $host_address"
    # Stays on afterwards, as with any container engine: another one may need it by then.
    echo 1 > /proc/sys/net/ipv4/ip_forward
    nft -f - <<NFT
table ip $table {
    chain forward { type filter hook forward priority -10; iifname "tare-ref0" accept; oifname "tare-ref0" accept; }
    chain postrouting { type nat hook postrouting priority 100; ip saddr $inner_address oifname != "tare-ref0" masquerade; }
}
NFT
}

remove_network() {
    nft delete table ip "$table" 2>/dev/null || true
    ip netns delete "$netns" 2>/dev/null || true
    ip link delete tare-ref0 2>/dev/null || true
}

start() {
    [[ $(id -u) == 0 ]] || fail "must run as root"
    fetch
    if running; then
        echo "unix://$socket"
        return
    fi
    mkdir -p "$state" "$run"
    make_network
    PATH="$root/usr/sbin:$root/usr/bin:$root/usr/libexec/docker:$PATH:$firewall/bin" setsid \
        nsenter --net="/run/netns/$netns" dockerd \
        --data-root "$state" --exec-root "$run/exec" --pidfile "$pidfile" --host "unix://$socket" \
        --cgroup-parent /tare-reference --exec-opt native.cgroupdriver=cgroupfs \
        --bip 10.213.16.1/24 --default-address-pool base=10.214.0.0/16,size=24 \
        > "$tools/dockerd.log" 2>&1 < /dev/null &
    for _ in $(seq 150); do
        docker version > /dev/null 2>&1 && break
        sleep 0.2
    done
    docker version > /dev/null 2>&1 || { tail -20 "$tools/dockerd.log" >&2; stop; fail "dockerd did not start"; }
    echo "unix://$socket"
}

stop() {
    local pid
    if running; then
        pid=$(<"$pidfile")
        mapfile -t containers < <(docker ps -q 2>/dev/null || true)
        [[ ${#containers[@]} == 0 ]] || docker kill "${containers[@]}" > /dev/null
        kill "$pid"
        tail --pid="$pid" -f /dev/null
    fi
    remove_network
    find /sys/fs/cgroup -depth -type d -path '*/tare-reference*' -exec rmdir {} + 2>/dev/null || true
    findmnt -rno TARGET | grep -E "^($run|$state)/" | sort -r | xargs -r umount || true
    rm -rf "$run"
}

case ${1:-} in
    fetch) fetch ;;
    start) start ;;
    stop) stop ;;
    status) running && echo "unix://$socket" ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
