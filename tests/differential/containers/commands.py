"""The docker commands that are compared: one list, in order, as each finds what those before it left."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE = "differential/busybox:1"


@dataclass(frozen=True, slots=True)
class Command:
    """``line`` is what follows ``docker``, in words of the shell; ``differs`` says why Tare's answer may be another."""

    line: str
    differs: str = ""


_SHIM = "the words after the runtime's come from the version of containerd"
_INIT = "Docker adds a layer of its own with mount points and /etc/mtab"

DIFFERENCES = {
    "exec cc-a nonsense": _SHIM,
    "exec -w /nope cc-a true": _SHIM,
    "exec -u nobody cc-a true": "a command that cannot be executed has exit status 126, whatever the reason",
    'container inspect -f "{{len .Mounts}} {{.Driver}}" cc-a': "the storage driver has another name",
    "run --rm differential/busybox:1 nonsense": _SHIM,
    "run --rm differential/busybox:1 /etc": _SHIM,
    "run --rm --network nope differential/busybox:1 true": "Tare looks networks up when the container is made",
    "run --rm --cpus 1000 differential/busybox:1 true": "more CPUs than there are limit nothing",
    "run --rm cc-image:1 ls /etc": _INIT,
    "run --rm -u nobody differential/busybox:1 true": "what helps follows Docker's words",
}
"""Commands that Tare answers otherwise on purpose, and why."""

_LINES = r"""
create --name cc-a --label k=v --label app=web differential/busybox:1 sleep 1000
create --name cc-a differential/busybox:1 true
create --name cc-ro --read-only -v /vol differential/busybox:1 true
create --name cc-x --expose 80 -p 127.0.0.1::81/udp differential/busybox:1 sh -c "exit 3"
create --name -bad differential/busybox:1 true
ps
ps -a --format {{.Names}}
ps -a --format "{{.Names}} {{.State}} {{.Status}} {{.Image}} {{.Command}}"
ps -a --format "{{.Names}} {{.Labels}}" --filter label=k=v
ps -a --format "{{.Names}} {{.Label \"app\"}}" --filter label=k
ps -a --format "{{.Names}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}}" --filter name=cc-a
ps -a --format "table {{.Names}}\t{{.Ports}}"
ps -a --filter status=created --format {{.Names}}
ps -a --filter status=nonsense
ps -a --filter nonsense=1
ps -a --filter exited=3 --format {{.Names}}
ps -a --filter ancestor=differential/busybox:1 --format {{.Names}}
ps -a --filter ancestor=differential/busybox --format {{.Names}}
ps -a --filter ancestor=nope --format {{.Names}}
ps -a --filter before=cc-x --format {{.Names}}
ps -a --filter since=cc-a --format {{.Names}}
ps -a --filter since=nope
ps -a --filter volume=/vol --format {{.Names}}
ps -a --filter volume=/nope --format {{.Names}}
ps -a --filter network=bridge --format {{.Names}}
ps -a --filter network=nope --format {{.Names}}
ps -a --filter expose=80 --format {{.Names}}
ps -a --filter expose=80/udp --format {{.Names}}
ps -a --filter expose=x
ps -a --filter publish=81/udp --format {{.Names}}
ps -a --filter publish=81 --format {{.Names}}
ps -a --filter publish=80-82/udp --format {{.Names}}
ps -a --filter health=none --format {{.Names}}
ps -a --filter health=healthy --format {{.Names}}
ps -a --filter health=bogus
ps -a --filter is-task=false --format {{.Names}}
ps -a --filter is-task=true --format {{.Names}}
ps -a --filter is-task=x
ps -a --filter isolation=default --format {{.Names}}
ps -a --filter name=^/cc-a$ --format {{.Names}}
ps -a --filter name=c-r --format {{.Names}}
ps -a --filter label=app=web --filter label=k=x --format {{.Names}}
ps -n 1 --format {{.Names}}
ps -l --format {{.Names}}
ps -n 2 --format {{.Names}}
ps -q -a --filter name=cc-a
ps -q --no-trunc -a --filter name=cc-a
ps -a --no-trunc --filter name=cc-x
ps --format {{.Nope}}
ps -a --format json --filter name=cc-nope
start cc-a
start cc-a
start nope
start nope cc-a
ps --format "{{.Names}} {{.State}}"
start -a cc-x
ps -a --filter exited=3 --format {{.Names}}
ps -a --filter exited=x --format {{.Names}}
ps -a --filter status=exited --format {{.Names}}
ps -a --filter name=cc-x --format {{.Status}}
top cc-a -o pid,comm
top cc-a -o comm
top cc-x
top nope
top cc-a -o pid,nonsense
exec cc-a echo hi
exec cc-x true
exec nope true
exec cc-a nonsense
exec -w /nope cc-a true
exec -u nobody cc-a true
exec cc-a sh -c "exit 7"
pause cc-a
pause cc-a
ps --format "{{.Names}} {{.State}}"
exec cc-a true
top cc-a -o pid,comm
start cc-a
rm cc-a
unpause cc-a
unpause cc-a
unpause nope
pause cc-x
pause nope
rename cc-a cc-b
rename cc-b cc-b
rename cc-b cc-x
rename cc-b "bad name"
rename nope cc-c
rename cc-b ""
rename cc-b cc-a
port cc-a
port cc-x
port cc-x 80
port nope
port cc-a 80/tcp/x
wait cc-x
wait cc-x cc-x
wait nope
wait cc-x nope
kill -s USR1 cc-a
kill -s BOGUS cc-a
kill -s 999 cc-a
kill cc-x
kill nope
stop -t 0 cc-a
stop cc-a
stop nope
stop cc-a nope
restart -t 0 cc-a
restart nope
kill -s KILL cc-a
wait cc-a
restart -t 0 -s KILL cc-a
stop -s BOGUS cc-a
rm cc-a
rm nope
rm -f nope
rm -f nope cc-none
rm --link cc-a
rm -v cc-ro
inspect nope
inspect --type container nope
inspect --type image nope
inspect --type bogus cc-a
inspect -f {{.Name}} cc-a
inspect -f {{.State.Status}} cc-a nope
inspect -f {{.Nope}} cc-a
inspect -f "{{json .Config.Labels}}" cc-a
inspect -f "{{.Config.Cmd}} {{.HostConfig.NetworkMode}} {{.RestartCount}}" cc-a
inspect -f "{{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}" cc-x
container inspect -f "{{len .Mounts}} {{.Driver}}" cc-a
container inspect nope
run --rm --name cc-r differential/busybox:1 sh -c "echo out; echo err >&2; exit 5"
run --rm differential/busybox:1 nonsense
run --rm differential/busybox:1 /etc
run --rm -w relative differential/busybox:1 true
run --rm -u nobody differential/busybox:1 true
run --rm -v relative/x:/y differential/busybox:1 true
run --rm --network nope differential/busybox:1 true
run --rm --memory 1m differential/busybox:1 true
run --rm --cpus 1000 differential/busybox:1 true
run --rm --restart always differential/busybox:1 true
run -d --rm --restart always differential/busybox:1 true
exec cc-a sh -c "mkdir -p /d/e && echo hi > /d/f && ln -s f /d/l && ln -s /d /dl && rm /etc/group"
diff cc-a
diff nope
diff cc-x
cp cc-a:/d/f -
cp cc-a:/nope -
cp cc-a:/d/f/ -
cp nope:/d/f -
cp cc-a:/d/f /nonexistent-directory/x
cp /nonexistent-file cc-a:/d
cp a b
cp cc-a:/x cc-x:/y
cp /etc/hostname cc-a:/nodir/x
cp /etc/hostname cc-a:/nodir/
cp /etc/hostname cc-a:/d/copied
cp /etc/hostname cc-a:/dl/through-link
cp /etc/hostname cc-a:/d/e
cp /etc/hostname nope:/
cp /etc/hostname cc-x:/root/stopped
cp cc-x:/root/nope -
cp /etc/apt cc-a:/d/f
exec cc-a find /d -type f
cp - cc-a:/d/f
export nope
commit -a me -m msg -c "CMD ls" -c "ENV A=$PATH:/x" -c "LABEL l=1" cc-a cc-image:1
commit nope x
commit -c "RUN x" cc-a
commit -c "NONSENSE x" cc-a
commit cc-a BAD
image inspect -f "{{.Author}} {{.Comment}} {{json .Config.Cmd}} {{json .Config.Env}}" cc-image:1
image inspect -f "{{json .Config.Labels}}" cc-image:1
run --rm cc-image:1 cat /d/f
run --rm cc-image:1 ls /etc
rmi cc-image:1
update cc-a
update --cpus 0.5 cc-a
update --cpu-quota 20000 cc-a
update --memory 1000 cc-a
update --memory 64m cc-a
update --memory 64m --memory-swap 128m cc-a
update --memory 256m cc-a
update --cpuset-cpus x cc-a
update --pids-limit 50 cc-a nope
update --restart bogus cc-a
update --restart always:3 cc-a
update --restart on-failure:3 cc-a
update --cpu-period 10 cc-a
update --cpus 0.3 nope
inspect -f "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}" cc-a
inspect -f "{{.HostConfig.RestartPolicy}}" cc-a
stats --no-stream nope
stats --no-stream --format "{{.Name}} {{.PIDs}}" cc-a
stats --no-stream --format "{{.Name}} {{.PIDs}} {{.MemUsage}}" cc-x
logs nope
attach nope
attach cc-x
container prune -f --filter label=nope
container prune -f --filter until=1h
container prune -f --filter bogus=1
container prune -f --filter label!=app
ps -a --format {{.Names}} --filter name=cc-
rm -f cc-a
rm -f -v cc-a cc-x
ps -a --format {{.Names}} --filter name=cc-
"""

COMMANDS = [Command(line, DIFFERENCES.get(line, "")) for line in map(str.strip, _LINES.splitlines()) if line]
