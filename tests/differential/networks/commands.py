"""The docker commands about networks that are compared: one list, in order, as each finds what those before it left.

``{start}`` and ``{now}`` stand for the times when the list began and when the command runs.
"""

from __future__ import annotations

IMAGE = "differential/busybox:1"

DIFFERENCES: dict[str, str] = {}
"""Commands that Tare answers otherwise on purpose, and why."""

_RUN = "run -d --label netcli"
_MAKE = "create --label netcli"
_END = "differential/busybox:1 sleep 1000"
_ADDRESSES = (
    '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}}/{{$e.IPPrefixLen}} {{$e.Gateway}} '
    '{{$e.MacAddress}} {{json $e.Aliases}} {{json $e.IPAMConfig}} {{json $e.DriverOpts}} {{$e.GwPriority}}{{println}}'
    "{{end}}"
)
_CREATED = "{{json .IPAM}} {{.Internal}} {{.Attachable}} {{json .Options}} {{json .Labels}} {{.EnableIPv6}}"

_LINES = rf"""
network ls
network ls -q --filter driver=bridge
network create --label netcli --subnet 10.231.0.0/24 netcli-a
network inspect -f '{_CREATED}' netcli-a
network create netcli-a
network create --subnet 10.231.1.0/24 --gateway 10.231.1.254 --label netcli --label app=web --attachable netcli-b
network inspect -f '{_CREATED}' netcli-b
network create --subnet 10.231.2.0/24 --ip-range 10.231.2.128/25 --label netcli netcli-range
network inspect -f '{_CREATED}' netcli-range
network create --subnet 10.231.3.0/24 --aux-address one=10.231.3.2 --aux-address two=10.231.3.3 --label netcli netcli-aux
network inspect -f '{_CREATED}' netcli-aux
network create --internal --subnet 10.231.4.0/24 --label netcli netcli-internal
network inspect -f '{_CREATED}' netcli-internal
network create -o com.docker.network.bridge.name=netcli0 -o com.docker.network.driver.mtu=1400 --subnet 10.231.5.0/24 netcli-opt
network inspect -f '{_CREATED}' netcli-opt
network create -o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.enable_ip_masquerade=false --subnet 10.231.6.0/24 netcli-closed
network inspect -f '{_CREATED}' netcli-closed
network create -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 --subnet 10.231.7.0/24 netcli-binding
network inspect -f '{_CREATED}' netcli-binding
network create --label netcli netcli-pool
network inspect -f '{_CREATED}' netcli-pool
network inspect netcli-b
network inspect bridge
network inspect host none
network create --subnet 10.231.0.0/24 netcli-x
network create --subnet 10.231.0.128/25 netcli-x
network create --subnet 10.231.0.0/16 netcli-x
network create --subnet 10.231.20.0/24 --gateway 10.231.21.1 netcli-x
network create --subnet 10.231.20.0/24 --gateway 10.231.20.0 netcli-x
network create --subnet 10.231.20.0/24 --gateway 10.231.20.255 netcli-x
network create --subnet 10.231.20.0/24 --gateway nonsense netcli-x
network create --subnet 10.231.20.0/24 --ip-range 10.231.21.0/25 netcli-x
network create --subnet 10.231.20.0/24 --ip-range 10.231.20.1/25 netcli-x
network create --subnet 10.231.20.0/24 --ip-range 10.231.0.0/16 netcli-x
network create --subnet 10.231.20.0/24 --ip-range nonsense netcli-x
network create --subnet 10.231.20.0/24 --aux-address one=10.231.21.5 netcli-x
network create --subnet 10.231.20.0/24 --aux-address one=nonsense netcli-x
network create --subnet 10.231.20.0/24 --aux-address 10.231.20.5 netcli-x
network create --subnet 10.231.20.0/24 --gateway 10.231.20.1 --aux-address one=10.231.20.1 netcli-x
network rm netcli-x
network create --subnet 10.231.20.0/24 --aux-address one=10.231.20.1 netcli-x
network inspect -f '{_CREATED}' netcli-x
network rm netcli-x
network create --subnet 10.231.20.0/24 --subnet 10.231.20.0/24 netcli-x
network create --subnet 10.231.20.0/24 --subnet 10.231.21.0/24 netcli-x
network rm netcli-x
network create --subnet 10.231.20.0/24 --subnet 10.231.20.0/25 netcli-x
network create --subnet 10.231.20.0/24 --gateway 10.231.20.1 --gateway 10.231.20.2 netcli-x
network create --subnet 10.231.20.0/24 --ip-range 10.231.20.0/25 --ip-range 10.231.20.128/25 netcli-x
network create --subnet 10.231.20.5/24 netcli-x
network create --subnet nonsense netcli-x
network create --subnet 10.231.20.0/33 netcli-x
network create --subnet 10.231.20.0 netcli-x
network create --subnet 10.231.20.0/31 netcli-x
network rm netcli-x
network create --subnet 10.231.20.0/32 netcli-x
network rm netcli-x
network create --subnet 10.231.20.0/30 netcli-x
network inspect -f '{_CREATED}' netcli-x
network rm netcli-x
network create --gateway 10.231.20.1 netcli-x
network create --ip-range 10.231.20.0/25 netcli-x
network create --aux-address one=10.231.20.1 netcli-x
network create --driver nonsense netcli-x
network create --driver host netcli-x
network create --driver null netcli-x
network create --driver none netcli-x
network create --driver "" netcli-x
network create host
network create bridge
network create none
network create default
network create container:x
network create "bad name"
network create -- -bad
network create ""
network create x/y
network create --scope nonsense netcli-x
network create --scope local --subnet 10.231.20.0/24 netcli-x
network rm netcli-x
network create --scope global netcli-x
network create --scope swarm netcli-x
network create --config-only --subnet 10.231.30.0/24 --label netcli netcli-config
network inspect -f '{_CREATED} {{{{.ConfigOnly}}}} {{{{.ConfigFrom}}}}' netcli-config
network create --config-from netcli-config netcli-from
network inspect -f '{_CREATED} {{{{.ConfigOnly}}}} {{{{.ConfigFrom}}}}' netcli-from
network create --config-from netcli-config --subnet 10.231.31.0/24 netcli-x
network create --config-from nope netcli-x
network rm netcli-config
network rm netcli-from
network rm netcli-config
network create --ingress netcli-x
network create --ipam-driver nonsense netcli-x
network create --ipam-driver default --ipam-opt a=b --subnet 10.231.20.0/24 netcli-x
network inspect -f '{_CREATED}' netcli-x
network rm netcli-x
network create --ipam-driver null netcli-x
network create -o com.docker.network.driver.mtu=nonsense netcli-x
network create -o com.docker.network.driver.mtu=-1 netcli-x
network create -o com.docker.network.bridge.enable_icc=nonsense netcli-x
network create -o com.docker.network.bridge.enable_ip_masquerade=nonsense netcli-x
network create -o com.docker.network.bridge.host_binding_ipv4=nonsense netcli-x
network create -o com.docker.network.bridge.name=netcli0 --subnet 10.231.20.0/24 netcli-x
network create -o com.docker.network.bridge.name=a-name-that-is-too-long netcli-x
network create -o com.docker.network.bridge.gateway_mode_ipv4=nonsense netcli-x
network create -o com.docker.network.container_iface_prefix=net --subnet 10.231.20.0/24 netcli-x
run --rm --network netcli-x differential/busybox:1 ls /sys/class/net
network rm netcli-x
network create -o some.unknown=1 --subnet 10.231.20.0/24 netcli-x
network inspect -f '{_CREATED}' netcli-x
network rm netcli-x
network create -o noequals --label noequals --subnet 10.231.20.0/24 netcli-x
network inspect -f '{_CREATED}' netcli-x
network rm netcli-x
network create
network create a b
network create --nonsense netcli-x
network ls
network ls --filter name=netcli-a --format "{{{{.Name}}}} {{{{.Driver}}}} {{{{.Scope}}}} {{{{.IPv4}}}} {{{{.IPv6}}}} {{{{.Internal}}}} {{{{.Labels}}}}"
network ls --filter label=app --format {{{{.Name}}}}
network ls --filter label=app=web --format "{{{{.Name}}}} {{{{.Label \"app\"}}}}"
network ls --filter label=app=x --format {{{{.Name}}}}
network ls --filter type=builtin --format {{{{.Name}}}}
network ls --filter type=custom --filter name=netcli-i --format {{{{.Name}}}}
network ls --filter type=nonsense
network ls --filter driver=host --filter driver=null --format {{{{.Name}}}}
network ls --filter driver=nonsense --format {{{{.Name}}}}
network ls --filter scope=local --filter name=host --format {{{{.Name}}}}
network ls --filter scope=swarm --format {{{{.Name}}}}
network ls --filter dangling=true --format {{{{.Name}}}}
network ls --filter dangling=false --format {{{{.Name}}}}
network ls --filter dangling=nonsense
network ls --filter nonsense=1
network ls --filter nonsense
network ls --filter id=nonsense
network ls --no-trunc --filter name=netcli-a
network ls -q --no-trunc --filter name=netcli-a
network ls --format json --filter name=netcli-nope
network ls --format "table {{{{.Name}}}}\t{{{{.Driver}}}}" --filter name=netcli-b
network ls --format {{{{.Nope}}}}
network inspect nope
network inspect nope netcli-a -f {{{{.Name}}}}
network inspect -v netcli-a -f {{{{.Name}}}}
network inspect -f {{{{.Nope}}}} netcli-a
network inspect netcli
network inspect
network rm bridge
network rm host none
network rm nope
network rm nope netcli-closed
network rm -f nope
network rm -f nope netcli-binding
network rm
{_RUN} --name netcli-one --network netcli-a {_END}
{_RUN} --name netcli-two --network netcli-a --ip 10.231.0.50 --network-alias al --mac-address 02:42:00:00:00:50 {_END}
{_MAKE} --name netcli-stopped --network netcli-b --ip 10.231.1.9 {_END}
inspect -f '{_ADDRESSES}' netcli-one netcli-two netcli-stopped
inspect -f "{{{{json .NetworkSettings.Networks}}}}" netcli-one
inspect -f "{{{{json .NetworkSettings.Networks}}}}" netcli-stopped
inspect -f "{{{{json .NetworkSettings}}}}" netcli-stopped
network inspect -f "{{{{json .Containers}}}}" netcli-a
network inspect -f "{{{{json .Containers}}}}" netcli-b
network rm netcli-a
network rm netcli-a -f
network rm netcli-b nope
network create --subnet 10.231.1.0/24 --gateway 10.231.1.254 --label netcli --label app=web --attachable netcli-b
network connect netcli-a netcli-one
network connect netcli-b netcli-one
network connect netcli-b netcli-one
exec netcli-one ip route
inspect -f '{_ADDRESSES}' netcli-one
network connect --ip 10.231.3.2 netcli-aux netcli-one
network connect --ip 10.231.3.20 --alias x --alias y --driver-opt a=b --gw-priority 5 netcli-aux netcli-one
inspect -f '{_ADDRESSES}' netcli-one
exec netcli-one ip route
exec netcli-one ls /sys/class/net
network connect --ip 10.231.2.5 netcli-range netcli-one
inspect -f '{_ADDRESSES}' netcli-one
network connect --ip 10.231.2.5 netcli-range netcli-two
network connect --ip 10.231.0.5 netcli-range netcli-two
network connect --ip nonsense netcli-range netcli-two
network connect --ip 10.231.2.0 netcli-range netcli-two
network connect --ip 10.231.2.255 netcli-range netcli-two
network connect --ip 10.231.2.1 netcli-range netcli-two
network connect --ip 10.231.2.128 netcli-range netcli-two
network connect --link-local-ip 169.254.9.9 netcli-pool netcli-two
network connect --gw-priority nonsense netcli-pool netcli-two
network connect --driver-opt nonsense netcli-pool netcli-two
network connect --ip 172.30.0.9 netcli-pool netcli-stopped
network connect netcli-pool nope
network connect nope netcli-one
network connect host netcli-one
network connect none netcli-one
network connect netcli-a
network connect netcli-a netcli-stopped
network connect netcli-a netcli-stopped
inspect -f '{_ADDRESSES}' netcli-stopped
network disconnect netcli-aux netcli-one
exec netcli-one ip route
network disconnect netcli-a netcli-one
exec netcli-one ip route
network disconnect netcli-a netcli-one
network disconnect -f netcli-a netcli-one
network disconnect netcli-a nope
network disconnect -f netcli-a nope
network disconnect nope netcli-one
network disconnect host netcli-one
network disconnect netcli-b netcli-stopped
network disconnect netcli-b netcli-stopped
network disconnect netcli-a netcli-stopped
inspect -f "{{{{json .NetworkSettings.Networks}}}} {{{{.HostConfig.NetworkMode}}}}" netcli-stopped
start netcli-stopped
exec netcli-stopped ls /sys/class/net
network connect netcli-a netcli-stopped
exec netcli-stopped ls /sys/class/net
stop -t 0 netcli-stopped
inspect -f "{{{{json .NetworkSettings}}}}" netcli-stopped
rm -f netcli-stopped
network connect netcli-a netcli-stopped
{_RUN} --name netcli-host --network host {_END}
network connect netcli-a netcli-host
network disconnect host netcli-host
inspect -f "{{{{json .NetworkSettings}}}}" netcli-host
{_RUN} --name netcli-none --network none {_END}
exec netcli-none ls /sys/class/net
network connect netcli-a netcli-none
exec netcli-none ls /sys/class/net
inspect -f "{{{{json .NetworkSettings}}}}" netcli-none
network disconnect none netcli-none
network connect netcli-a netcli-none
{_RUN} --name netcli-joined --network container:netcli-two {_END}
inspect -f "{{{{json .NetworkSettings}}}}" netcli-joined
network connect netcli-b netcli-joined
exec netcli-joined ip -4 -o addr show eth0
rm -f netcli-host netcli-none netcli-joined
run --rm --network host -p 80:80 differential/busybox:1 true
run --rm --network none -p 80:80 differential/busybox:1 true
run --rm --network none -P --expose 80 differential/busybox:1 true
run --rm --network container:netcli-two -p 80:80 differential/busybox:1 true
run --rm --network container:netcli-two -P differential/busybox:1 true
run --rm --network container:netcli-two --expose 80 differential/busybox:1 true
run --rm --network container:netcli-two --hostname x differential/busybox:1 true
run --rm --network container:netcli-two --add-host x:1.2.3.4 differential/busybox:1 true
run --rm --network container:netcli-two --dns 1.2.3.4 differential/busybox:1 true
run --rm --network container:netcli-two --mac-address 02:42:00:00:00:51 differential/busybox:1 true
run --rm --network container:netcli-two --link netcli-one differential/busybox:1 true
run --rm --network container:netcli-two --network-alias x differential/busybox:1 true
run --rm --network container:netcli-two --ip 10.231.0.77 differential/busybox:1 true
run --rm --network container:nope differential/busybox:1 true
run --rm --network container: differential/busybox:1 true
run --rm --network container:netcli-two --network netcli-a differential/busybox:1 true
run --rm --network host --hostname x differential/busybox:1 hostname
run --rm --network host --ip 10.231.0.77 differential/busybox:1 true
run --rm --network host --network-alias x differential/busybox:1 true
run --rm --network host --mac-address 02:42:00:00:00:51 differential/busybox:1 true
run --rm --network host --network netcli-a differential/busybox:1 true
run --rm --network none --network netcli-a differential/busybox:1 true
run --rm --network none --ip 10.231.0.77 differential/busybox:1 true
run --rm --network bridge --ip 172.17.0.77 differential/busybox:1 true
run --rm --ip 10.231.0.77 differential/busybox:1 true
run --rm --network bridge --network-alias x differential/busybox:1 true
run --rm --network-alias x differential/busybox:1 true
run --rm --network nope differential/busybox:1 true
run --rm --network netcli-a --ip 10.231.9.1 differential/busybox:1 true
run --rm --network netcli-a --ip 10.231.0.50 differential/busybox:1 true
run --rm --network netcli-a --ip nonsense differential/busybox:1 true
run --rm --network netcli-a --mac-address nonsense differential/busybox:1 true
run --rm --network netcli-pool --ip 172.30.0.77 differential/busybox:1 true
run --rm --network name=netcli-a,alias=a1,alias=a2,ip=10.231.0.60,mac-address=02:42:00:00:00:60 differential/busybox:1 ip -4 -o addr show eth0
run --rm --network name=netcli-a,nonsense=1 differential/busybox:1 true
run --rm --network alias=a1 differential/busybox:1 true
run --rm --network name=netcli-a,ip=nonsense differential/busybox:1 true
run --rm --network name=netcli-a,mac-address=nonsense differential/busybox:1 true
run --rm --network name=netcli-a,driver-opt=nonsense differential/busybox:1 true
run --rm --network name=netcli-a,gw-priority=nonsense differential/busybox:1 true
run --rm --network name=netcli-a,ip=10.231.0.60 --ip 10.231.0.61 differential/busybox:1 true
run --rm --network name=netcli-a,alias=a1 --network-alias a2 differential/busybox:1 true
run --rm --network netcli-a --network netcli-a differential/busybox:1 true
run --rm --network netcli-a --network netcli-b differential/busybox:1 ip route
run --rm --network netcli-b --network netcli-a differential/busybox:1 ip route
run --rm --network name=netcli-a --network name=netcli-b,gw-priority=1 differential/busybox:1 ip route
run --rm --network netcli-internal --network netcli-a differential/busybox:1 ip route
run --rm --network netcli-a --network netcli-b --ip 10.231.0.61 --network-alias x differential/busybox:1 ip -4 -o addr show eth0
run --rm --network name=netcli-a,driver-opt=com.docker.network.endpoint.ifname=abc0 differential/busybox:1 ls /sys/class/net
{_RUN} --name netcli-multi --network name=netcli-a,alias=m1 --network name=netcli-b,ip=10.231.1.77,gw-priority=3 {_END}
inspect -f '{_ADDRESSES}' netcli-multi
inspect -f "{{{{json .NetworkSettings.Networks}}}}" netcli-multi
stop -t 0 netcli-multi
inspect -f "{{{{json .NetworkSettings}}}}" netcli-multi
start netcli-multi
inspect -f '{_ADDRESSES}' netcli-multi
restart -t 0 netcli-two
inspect -f '{_ADDRESSES}' netcli-two
{_RUN} --name netcli-p --network netcli-a -p 127.0.0.1:21080-21083:80-83 -p 127.0.0.1:21053:53/udp --expose 90 {_END}
port netcli-p
port netcli-p 80
port netcli-p 80/tcp
port netcli-p 53/udp
port netcli-p 90
port netcli-p nonsense
ps --filter name=netcli-p --format {{{{.Ports}}}}
inspect -f "{{{{json .NetworkSettings.Ports}}}} {{{{json .HostConfig.PortBindings}}}} {{{{json .Config.ExposedPorts}}}}" netcli-p
run --rm -p 127.0.0.1:21080:80 --name netcli-q differential/busybox:1 true
run --rm -p 21080:80 --name netcli-q differential/busybox:1 true
run --rm -p 127.0.0.1:21053:53 --name netcli-q differential/busybox:1 true
run --rm -p 198.51.100.1:21090:80 --name netcli-q differential/busybox:1 true
{_RUN} --name netcli-all -P --expose 80-82 --expose 53/udp {_END}
ps --filter name=netcli-all --format {{{{.Ports}}}}
port netcli-all
rm -f netcli-all
{_RUN} --name netcli-v -p 0.0.0.0:21100-21102:100-102 -p 127.0.0.1:21103:103 --expose 200-205 {_END}
ps --filter name=netcli-v --format {{{{.Ports}}}}
port netcli-v
inspect -f "{{{{json .NetworkSettings}}}}" netcli-v
stop -t 0 netcli-v
ps -a --filter name=netcli-v --format {{{{.Ports}}}}
port netcli-v
port netcli-v 100
inspect -f "{{{{json .NetworkSettings}}}}" netcli-v
{_RUN} --name netcli-pr -p 127.0.0.1:21110-21112:80 {_END}
port netcli-pr
{_RUN} --name netcli-pr2 -p 127.0.0.1:21110-21112:80 {_END}
port netcli-pr2
run --rm -p 80-82:90-91 differential/busybox:1 true
run --rm -p nonsense differential/busybox:1 true
run --rm -p 70000:80 differential/busybox:1 true
run --rm -p 80:70000 differential/busybox:1 true
run --rm -p 80:80/nonsense differential/busybox:1 true
run --rm -p 1.2.3:80:80 differential/busybox:1 true
run --rm -p : differential/busybox:1 true
run --rm -p 82-80:80-82 differential/busybox:1 true
run --rm --expose nonsense differential/busybox:1 true
run --rm --expose 80:80 differential/busybox:1 true
create --name netcli-double -p 127.0.0.1:21120:80 -p 127.0.0.1:21121:80 {_END}
inspect -f "{{{{json .HostConfig.PortBindings}}}}" netcli-double
start netcli-double
port netcli-double
ps --filter name=netcli-double --format {{{{.Ports}}}}
{_RUN} --name netcli-in --network netcli-internal -p 127.0.0.1:21130:80 {_END}
port netcli-in
exec netcli-in ip route
ps --filter name=netcli-in --format {{{{.Ports}}}}
inspect -f '{_ADDRESSES}' netcli-in
rm -f netcli-one netcli-two netcli-multi netcli-p netcli-v netcli-pr netcli-pr2 netcli-double netcli-in
network create --label netcli-ev --subnet 10.231.40.0/24 netcli-ev
run --rm --name netcli-ev1 --network netcli-ev differential/busybox:1 true
{_RUN} --name netcli-ev2 --network none {_END}
network disconnect none netcli-ev2
network connect netcli-ev netcli-ev2
network disconnect netcli-ev netcli-ev2
rm -f netcli-ev2
create --name netcli-ev3 --network netcli-ev differential/busybox:1 true
network disconnect -f netcli-ev netcli-ev3
network connect netcli-ev netcli-ev3
rm netcli-ev3
network prune -f --filter until=1h
network prune -f --filter until=nonsense
network prune -f --filter nonsense=1
network prune -f --filter label=nope
network prune -f --filter label=netcli-ev
network prune -f --filter label!=netcli
network rm netcli-opt
events --since {{start}} --until {{now}} --filter type=network --format "{{{{.Action}}}} {{{{json .Actor.Attributes}}}}"
events --since {{start}} --until {{now}} --filter network=netcli-ev --format "{{{{.Type}}}} {{{{.Action}}}}"
create --name netcli-gone --network netcli-range {_END}
network rm netcli-range
start netcli-gone
inspect -f "{{{{json .NetworkSettings}}}}" netcli-gone
network prune -f
rm -f netcli-gone
network prune -f
network prune -f
network ls
"""

COMMANDS = [line for line in map(str.strip, _LINES.splitlines()) if line]
