#!/bin/sh
# Three services and a monitor: who reaches whom, tried with pings and HTTP, then explained and proven.
#
#   examples/isolation/scene.sh                 with the tare command
#   CLI=docker examples/isolation/scene.sh      the same with docker's command line (set DOCKER_HOST to Tare's socket)
#
# Exit status 0 when everything is as it should be. What it makes is removed at the end (KEEP=1 leaves it running).
set -eu

CLI=${CLI:-tare}
IMAGE=${IMAGE:-tare.local/distroless/static:debug}   # an image with a busybox; it needs nothing else
NAMES="isolation-login isolation-logout isolation-payment isolation-monitor"
NETWORK=isolation-bank
SERVE="mkdir -p /tmp/www; echo hello from \$0 > /tmp/www/index.html; exec /busybox/httpd -f -p 80 -h /tmp/www"
failures=0

clean() {
    $CLI rm -f $NAMES > /dev/null 2>&1 || true
    $CLI network rm $NETWORK > /dev/null 2>&1 || true
}

say() { printf '\n%s\n' "$*"; }

address() { $CLI inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "isolation-$1"; }

# expect yes|no WHAT COMMAND…: run it and compare
expect() {
    wanted=$1 what=$2
    shift 2
    if "$@" > /dev/null 2>&1; then found=yes; else found=no; fi
    if [ "$found" = "$wanted" ]; then mark=ok; else mark=WRONG failures=$((failures + 1)); fi
    printf '  %-46s %-4s %s\n' "$what" "$found" "$mark"
}

ping_from() { $CLI exec "isolation-$1" /busybox/ping -c 1 -W 1 "$2"; }
fetch_from() { $CLI exec "isolation-$1" /busybox/timeout 2 /busybox/wget -q -O - "http://$2/"; }

clean
[ -n "${KEEP:-}" ] || trap clean EXIT INT TERM

say "login and logout on the default bridge, payment on a network of its own, a monitor on the host's network"
$CLI network create $NETWORK > /dev/null
$CLI run -d --name isolation-login -p 127.0.0.1::80 --entrypoint /busybox/sh "$IMAGE" -c "$SERVE" login > /dev/null
$CLI run -d --name isolation-logout --entrypoint /busybox/sh "$IMAGE" -c "$SERVE" logout > /dev/null
$CLI run -d --name isolation-payment --network $NETWORK --entrypoint /busybox/sh "$IMAGE" -c "$SERVE" payment > /dev/null
$CLI run -d --name isolation-monitor --network host --entrypoint /busybox/sh "$IMAGE" -c "exec /busybox/sleep 100000" > /dev/null
login=$(address login) logout=$(address logout) payment=$(address payment)
printf '  login %s   logout %s   payment %s   monitor has %s\n' "$login" "$logout" "$payment" "$(address monitor || true)no address of its own"

say "who reaches whom"
for pair in "login $logout logout yes" "logout $login login yes" "login $payment payment no" "logout $payment payment no" \
    "payment $login login no" "payment $logout logout no"; do
    set -- $pair
    expect "$4" "$1 pings $3" ping_from "$1" "$2"
    expect "$4" "$1 fetches a page from $3" fetch_from "$1" "$2"
done
expect yes "monitor, on the host's network, pings payment" ping_from monitor "$payment"
inside=$($CLI exec isolation-monitor /busybox/ls /sys/class/net | tr '\n' ' ')
expect yes "monitor sees the host's interfaces" test "$inside" = "$(ls /sys/class/net | tr '\n' ' ')"

if command -v tare > /dev/null 2>&1; then
    say "\$ tare network explain isolation-login isolation-payment 80"
    tare network explain isolation-login isolation-payment 80 || true
    say "\$ tare network verify $NAMES"
    tare network verify isolation-login isolation-logout isolation-payment isolation-monitor || failures=$((failures + 1))
    say "\$ tare exposure"
    tare exposure
    say "\$ tare network graph"
    tare network graph
fi

[ "$failures" = 0 ] && say "as it should be" || say "$failures WRONG"
exit "$failures"
