"""What ``docker run`` may be asked for, as a table: options, and a command that shows what the process gets.

The results of a real Docker are in ``recorded.json``. A case with ``differs`` is one where Tare does something else on
purpose; ``expected`` is what Tare gives then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

FILES = Path(__file__).with_name("files")
EVERYTHING = ("the whole HostConfig",)
IMAGE = "differential/base:1"


@dataclass(frozen=True, slots=True)
class Result:
    """What a client shows: exit status, standard output and error, normalised."""

    code: int
    out: str
    err: str = ""


@dataclass(frozen=True, slots=True)
class OptionCase:
    """One call of ``run``: ``script`` runs in a shell inside; ``command`` replaces that shell altogether.

    With ``inspect`` the container is created only, and the named members of its HostConfig and Config are the output.
    ``crun`` is why a case shows something else where crun is the runtime, as Docker's was runc; the exit status is the
    same, or ``crun_code``.
    """

    name: str
    options: tuple[str, ...]
    script: str = "true"
    command: tuple[str, ...] | None = None
    inspect: tuple[str, ...] = ()
    differs: str = ""
    crun: str = ""
    crun_code: int | None = None
    expected: Result | None = None

    def words(self) -> list[str]:
        """What stands after ``run`` or ``create``."""
        command = ("sh", "-c", self.script) if self.command is None else self.command
        return [*(option.replace("@FILES", os.fspath(FILES)) for option in self.options), IMAGE, *command]


_CRUN_WORDS = "the words are runc's, but for the runtime's name"
_CRUN_MOUNTS = "crun mounts in another order, and covers hidden files with others"
IDS = "id -u; id -g; id -G; echo $HOME; pwd"
CAPS = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status"
GUARDS = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status"
MEMORY = (
    "cd /sys/fs/cgroup/memory; for f in limit_in_bytes memsw.limit_in_bytes soft_limit_in_bytes swappiness; "
    "do test -e memory.$f && echo $f $(cat memory.$f); done; grep -E '^oom_kill_disable' memory.oom_control"
)
CPU = "cd /sys/fs/cgroup/cpu; for f in shares cfs_period_us cfs_quota_us; do echo $f $(cat cpu.$f); done"
CPUSET = "cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems"
PIDS = "cat /sys/fs/cgroup/pids/pids.max"
BLKIO = (
    "cd /sys/fs/cgroup/blkio; for f in throttle.read_bps_device throttle.write_bps_device throttle.read_iops_device "
    "throttle.write_iops_device; do echo $f $(cat blkio.$f); done"
)
DEVICES = "sort /sys/fs/cgroup/devices/devices.list"
DEV = "ls -l /dev | awk '{ print $1, $3, $4, $5, $6, $NF }' | grep -v ^total"
MOUNTS = "awk '{ print $2, $3, $4 }' /proc/self/mounts"


def _at(path: str) -> str:
    return f"grep ' {path} ' /proc/self/mounts | awk '{{ print $2, $3, $4 }}'"


def _namespaces(*kinds: str) -> str:
    return "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)


_IDENTITY = (
    OptionCase("user-default", (), IDS),
    OptionCase("user-name", ("-u", "app"), IDS),
    OptionCase("user-name-group", ("-u", "app:users"), IDS),
    OptionCase("user-number-listed", ("-u", "1500"), IDS),
    OptionCase("user-number-unlisted", ("-u", "4242"), IDS),
    OptionCase("user-number-group-number", ("-u", "4242:4343"), IDS),
    OptionCase("user-root-group-name", ("-u", "0:staff"), IDS),
    OptionCase("user-group-only", ("-u", ":users"), IDS),
    OptionCase("user-missing", ("-u", "nobodyhere"), IDS),
    OptionCase("group-missing", ("-u", "app:nogroup"), IDS),
    OptionCase("user-too-large", ("-u", "4294967296"), IDS),
    OptionCase("user-negative", ("-u", "-1"), IDS),
    OptionCase("group-add-name", ("-u", "app", "--group-add", "users"), IDS),
    OptionCase("group-add-number", ("--group-add", "777", "--group-add", "extra"), IDS),
    OptionCase("group-add-missing", ("--group-add", "nogroup"), IDS),
    OptionCase("user-caps", ("-u", "app"), CAPS),
    OptionCase("user-cap-add", ("-u", "app", "--cap-add", "NET_ADMIN"), CAPS),
    OptionCase("workdir-existing", ("-w", "/srv/base"), "pwd"),
    OptionCase(
        "workdir-made", ("-w", "/new/deep", "-u", "app"), "pwd; ls -ldn /new /new/deep | awk '{print $1,$3,$4}'"
    ),
    OptionCase("workdir-link", ("-w", "/srv/link"), "pwd; ls"),
    OptionCase("workdir-relative", ("-w", "relative"), "pwd"),
    OptionCase("workdir-dots", ("-w", "/srv/../srv/base/"), "pwd"),
    OptionCase("workdir-file", ("-w", "/etc/passwd"), "pwd"),
    OptionCase("hostname", ("-h", "web-1"), "hostname; cat /etc/hostname; grep -c web-1 /etc/hosts; echo $HOSTNAME"),
    OptionCase("hostname-dotted", ("-h", "web.example.org"), "hostname; grep web /etc/hosts | awk '{ print $2, $3 }'"),
    OptionCase("hostname-invalid", ("-h", "bad_name!"), "hostname"),
    OptionCase("hostname-too-long", ("-h", "h" * 65), "hostname", crun=_CRUN_WORDS),
    OptionCase("domainname", ("-h", "web", "--domainname", "example.org"), "cat /proc/sys/kernel/domainname; hostname"),
    OptionCase("entrypoint", ("--entrypoint", "echo"), command=("one", "two")),
    OptionCase("entrypoint-empty", ("--entrypoint", ""), command=("echo", "plain")),
    OptionCase("entrypoint-missing", ("--entrypoint", "/no/such"), command=(), crun=_CRUN_WORDS),
    OptionCase("command-missing", (), command=("nosuchprogram",), crun=_CRUN_WORDS),
    OptionCase("command-directory", (), command=("/srv",), crun=_CRUN_WORDS),
    OptionCase("command-not-executable", (), command=("/etc/passwd",), crun=_CRUN_WORDS),
    OptionCase("exit-code", (), "exit 42"),
    OptionCase("exit-signal", (), "kill -9 $$"),
)
_ENVIRONMENT = (
    OptionCase("env", ("-e", "A=1", "-e", "B=two words", "-e", "EMPTY="), "env | sort | grep -v HOSTNAME"),
    OptionCase(
        "env-from-host", ("-e", "FROM_HOST", "-e", "NOT_THERE"), "env | sort | grep -E 'HOST|NOT' | grep -v HOSTN"
    ),
    OptionCase("env-repeated", ("-e", "A=1", "-e", "A=2"), "env | grep ^A="),
    OptionCase("env-overrides-image", ("-e", "BASE=mine", "-e", "PATH=/bin"), "echo $BASE $PATH"),
    OptionCase("env-invalid", ("-e", "=x"), "env"),
    OptionCase("env-file", ("--env-file", "@FILES/good.env"), "env | sort | grep -E '^(F_|FROM)'"),
    OptionCase("env-file-and-env", ("-e", "F_ONE=option", "--env-file", "@FILES/good.env"), "echo $F_ONE"),
    OptionCase("env-file-bom", ("--env-file", "@FILES/bom.env"), "env | grep F_BOM"),
    OptionCase("env-file-crlf", ("--env-file", "@FILES/crlf.env"), "env | grep F_ | od -c"),
    OptionCase("env-file-space-in-name", ("--env-file", "@FILES/space.env"), "env"),
    OptionCase("env-file-no-name", ("--env-file", "@FILES/noname.env"), "env"),
    OptionCase("env-file-latin1", ("--env-file", "@FILES/latin1.env"), "env"),
    OptionCase("env-file-directory", ("--env-file", "/etc"), "env"),
    OptionCase("env-file-missing", ("--env-file", "/no/such.env"), "env"),
    OptionCase("labels", ("-l", "a=1", "-l", "b", "--label-file", "@FILES/labels"), inspect=("Labels",)),
    OptionCase("label-file-missing", ("--label-file", "/no/such"), "true"),
    OptionCase("annotation", ("--annotation", "x=1", "--annotation", "y=a=b"), inspect=("Annotations",)),
    OptionCase("annotation-invalid", ("--annotation", "novalue"), "true"),
)
_RESOURCES = (
    OptionCase("memory", ("-m", "64m"), MEMORY),
    OptionCase("memory-swap-same", ("-m", "64m", "--memory-swap", "64m"), MEMORY),
    OptionCase("memory-swap-more", ("-m", "64m", "--memory-swap", "128m"), MEMORY),
    OptionCase("memory-swap-unlimited", ("-m", "64m", "--memory-swap", "-1"), MEMORY),
    OptionCase("memory-swap-less", ("-m", "64m", "--memory-swap", "32m"), MEMORY),
    OptionCase("memory-swap-alone", ("--memory-swap", "64m"), MEMORY),
    OptionCase("memory-too-small", ("-m", "1m"), MEMORY),
    OptionCase("memory-invalid", ("-m", "lots"), MEMORY),
    OptionCase("memory-reservation", ("-m", "64m", "--memory-reservation", "32m"), MEMORY),
    OptionCase("memory-reservation-too-large", ("-m", "32m", "--memory-reservation", "64m"), MEMORY),
    OptionCase("memory-reservation-alone", ("--memory-reservation", "64m"), MEMORY),
    OptionCase("memory-reservation-small", ("--memory-reservation", "1m"), MEMORY),
    OptionCase("memory-swappiness", ("-m", "64m", "--memory-swappiness", "0"), MEMORY),
    OptionCase("memory-swappiness-invalid", ("--memory-swappiness", "101"), MEMORY),
    OptionCase("kernel-memory", ("-m", "64m", "--kernel-memory", "32m"), MEMORY),
    OptionCase("oom-kill-disable", ("-m", "64m", "--oom-kill-disable"), MEMORY),
    OptionCase("oom-kill-disable-alone", ("--oom-kill-disable",), MEMORY),
    OptionCase("oom-score-adj", ("--oom-score-adj", "500"), "cat /proc/self/oom_score_adj"),
    OptionCase("oom-score-adj-negative", ("--oom-score-adj", "-500"), "cat /proc/self/oom_score_adj",
               differs="Docker's container does not start on a host whose engine may not lower the score; Tare's gets what "
               "the engine has", expected=Result(0, "0\n")),
    OptionCase("oom-score-adj-invalid", ("--oom-score-adj", "1001"), "true"),
    OptionCase(
        "oom-kill", ("-m", "16m", "--memory-swap", "16m"), command=("sh", "-c", "exec tail -c 64m /dev/zero")
    ),
    OptionCase("cpus", ("--cpus", "1.5"), CPU),
    OptionCase("cpus-fraction", ("--cpus", ".25"), CPU),
    OptionCase("cpus-too-many", ("--cpus", "4096"), CPU),
    OptionCase("cpus-too-few", ("--cpus", "0.001"), CPU, crun=_CRUN_WORDS),
    OptionCase("cpus-invalid", ("--cpus", "many"), CPU),
    OptionCase("cpus-negative", ("--cpus", "-1"), CPU),
    OptionCase("cpu-shares", ("-c", "512"), CPU),
    OptionCase("cpu-shares-small", ("--cpu-shares", "1"), CPU, crun="crun takes the least there is", crun_code=0),
    OptionCase("cpu-shares-negative", ("--cpu-shares", "-1"), CPU),
    OptionCase("cpu-quota", ("--cpu-period", "50000", "--cpu-quota", "25000"), CPU),
    OptionCase("cpu-period-invalid", ("--cpu-period", "10"), CPU),
    OptionCase("cpu-quota-invalid", ("--cpu-quota", "10"), CPU),
    OptionCase("cpus-and-quota", ("--cpus", "1", "--cpu-quota", "5000"), CPU),
    OptionCase("cpus-and-period", ("--cpus", "1", "--cpu-period", "5000"), CPU),
    OptionCase("cpu-rt-period", ("--cpu-rt-period", "1000000"), CPU),
    OptionCase("cpu-rt-runtime", ("--cpu-rt-runtime", "95000"), CPU, crun=_CRUN_WORDS),
    OptionCase("cpuset", ("--cpuset-cpus", "0", "--cpuset-mems", "0"), CPUSET),
    OptionCase("cpuset-range", ("--cpuset-cpus", "0-1"), CPUSET),
    OptionCase("cpuset-not-there", ("--cpuset-cpus", "0,99"), CPUSET),
    OptionCase("cpuset-invalid", ("--cpuset-cpus", "a-b"), CPUSET),
    OptionCase("cpuset-out-of-range", ("--cpuset-cpus", "0-9000"), CPUSET),
    OptionCase("cpuset-mems-not-there", ("--cpuset-mems", "7"), CPUSET),
    OptionCase("pids", ("--pids-limit", "40"), PIDS),
    OptionCase("pids-unlimited", ("--pids-limit", "-1"), PIDS),
    OptionCase("pids-zero", ("--pids-limit", "0"), PIDS),
    OptionCase("pids-default", (), PIDS),
    OptionCase("blkio-weight", ("--blkio-weight", "500"), "cat /sys/fs/cgroup/blkio/blkio.weight 2>&1 | head -1"),
    OptionCase("blkio-weight-invalid", ("--blkio-weight", "5"), "true"),
    OptionCase("blkio-weight-no-number", ("--blkio-weight", "much"), "true"),
    OptionCase("blkio-weight-device", ("--blkio-weight-device", "/dev/vda:300"), BLKIO),
    OptionCase("blkio-weight-device-invalid", ("--blkio-weight-device", "/dev/vda:5"), BLKIO),
    OptionCase("blkio-weight-device-format", ("--blkio-weight-device", "vda"), BLKIO),
    OptionCase("device-read-bps", ("--device-read-bps", "/dev/vda:1mb"), BLKIO),
    OptionCase("device-write-bps", ("--device-write-bps", "/dev/vda:2097152"), BLKIO),
    OptionCase("device-read-iops", ("--device-read-iops", "/dev/vda:100"), BLKIO),
    OptionCase("device-write-iops", ("--device-write-iops", "/dev/vda:200", "--device-write-bps", "/dev/vda:1k"), BLKIO),
    OptionCase("device-bps-format", ("--device-read-bps", "/dev/vda"), BLKIO),
    OptionCase("device-bps-rate", ("--device-read-bps", "/dev/vda:fast"), BLKIO),
    OptionCase("device-iops-rate", ("--device-read-iops", "/dev/vda:-1"), BLKIO),
    OptionCase("device-bps-missing", ("--device-read-bps", "/dev/nosuch:1mb"), BLKIO),
    OptionCase("device-bps-relative", ("--device-read-bps", "vda:1mb"), BLKIO),
    OptionCase("ulimits", ("--ulimit", "nofile=64:128", "--ulimit", "nproc=99"), "grep -E 'files|processes' /proc/self/limits"),
    OptionCase("ulimit-core-unlimited", ("--ulimit", "core=-1"), "ulimit -c; ulimit -Hc"),
    OptionCase("ulimit-default", (), "ulimit -c; ulimit -s"),
    OptionCase("ulimit-soft-above-hard", ("--ulimit", "nofile=128:64"), "true"),
    OptionCase("ulimit-unknown", ("--ulimit", "nofiles=1"), "true"),
    OptionCase("ulimit-format", ("--ulimit", "nofile"), "true"),
    OptionCase("ulimit-value", ("--ulimit", "nofile=many"), "true"),
    OptionCase("ulimit-three-values", ("--ulimit", "nofile=1:2:3"), "true"),
    OptionCase("shm-size", ("--shm-size", "128m"), _at("/dev/shm")),
    OptionCase("shm-size-default", (), _at("/dev/shm")),
    OptionCase("shm-size-invalid", ("--shm-size", "x"), "true"),
    OptionCase("storage-opt", ("--storage-opt", "size=1g"), "true"),
    OptionCase("storage-opt-unknown", ("--storage-opt", "speed=1g"), "true"),
    OptionCase("cgroup-parent", ("--cgroup-parent", "/options-parent"), inspect=("CgroupParent",)),
    OptionCase("limits-shown", ("-m", "64m", "--cpus", "0.5", "--pids-limit", "9", "--ulimit", "nofile=5", "--blkio-weight",
                                "0", "--device-read-bps", "/dev/vda:1mb", "--memory-swappiness", "10"),
               inspect=("Memory", "MemorySwap", "NanoCpus", "PidsLimit", "Ulimits", "BlkioWeight", "BlkioDeviceReadBps",
                        "BlkioDeviceWriteBps", "MemorySwappiness", "OomKillDisable", "CpuPeriod", "ShmSize")),
)  # fmt: skip
_DEVICES = (
    OptionCase("device-rules-default", (), DEVICES, crun="runc adds /dev/net/tun"),
    OptionCase("dev-default", (), DEV, crun="crun adds /dev/core"),
    OptionCase("device", ("--device", "/dev/fuse"), f"{DEV} | grep fuse; {DEVICES} | grep 10:229"),
    OptionCase("device-renamed", ("--device", "/dev/fuse:/dev/melt:r"), f"{DEV} | grep melt; {DEVICES} | grep 10:229"),
    OptionCase("device-rights-only", ("--device", "/dev/fuse:rw"), f"{DEVICES} | grep 10:229"),
    OptionCase("device-missing", ("--device", "/dev/nosuch"), "true"),
    OptionCase("device-not-one", ("--device", "/etc/passwd"), "true"),
    OptionCase("device-rights-invalid", ("--device", "/dev/fuse:/dev/fuse:rq"), "true"),
    OptionCase("device-four-parts", ("--device", "/dev/a:/dev/b:r:x"), "true"),
    OptionCase("device-relative", ("--device", "fuse"), "true"),
    OptionCase("device-directory", ("--device", "/dev/net"), "ls /dev/net"),
    OptionCase("device-cgroup-rule", ("--device-cgroup-rule", "c 42:* rmw"), f"{DEVICES} | grep 42"),
    OptionCase("device-cgroup-rule-invalid", ("--device-cgroup-rule", "c 42"), "true"),
    OptionCase("gpus", ("--gpus", "all"), "true"),
    OptionCase("runtime", ("--runtime", "runc"), "true"),
    OptionCase("runtime-alias", ("--runtime", "io.containerd.runc.v2"), "true"),
    OptionCase("runtime-unknown", ("--runtime", "nosuch"), "true"),
    OptionCase("isolation-default", ("--isolation", "default"), "true"),
    OptionCase("isolation-hyperv", ("--isolation", "hyperv"), "true"),
)
_ISOLATION = (
    OptionCase("caps-default", (), CAPS),
    OptionCase("cap-add", ("--cap-add", "net_admin"), CAPS),
    OptionCase("cap-add-prefixed", ("--cap-add", "CAP_SYS_TIME", "--cap-add", "sys_time"), CAPS),
    OptionCase("cap-add-all", ("--cap-add", "ALL"), CAPS),
    OptionCase("cap-add-all-drop-one", ("--cap-add", "ALL", "--cap-drop", "MKNOD"), CAPS),
    OptionCase("cap-drop", ("--cap-drop", "CHOWN", "--cap-drop", "CAP_KILL"), CAPS),
    OptionCase("cap-drop-all", ("--cap-drop", "all"), CAPS),
    OptionCase("cap-drop-all-add-one", ("--cap-drop", "ALL", "--cap-add", "SETUID"), CAPS),
    OptionCase("cap-both", ("--cap-add", "SETUID", "--cap-drop", "SETUID"), CAPS),
    OptionCase("cap-unknown", ("--cap-add", "FLYING"), CAPS),
    OptionCase("cap-drop-unknown", ("--cap-drop", "CAP_FLYING"), CAPS),
    OptionCase("caps-shown", ("--cap-add", "net_admin", "--cap-drop", "cap_chown"), inspect=("CapAdd", "CapDrop")),
    OptionCase("privileged", ("--privileged",), f"{CAPS}; {GUARDS}; cat /sys/fs/cgroup/devices/devices.list"),
    OptionCase("privileged-user", ("--privileged", "-u", "app"), f"{CAPS}; {GUARDS}"),
    OptionCase("privileged-cap-drop", ("--privileged", "--cap-drop", "ALL"), CAPS),
    OptionCase("privileged-mounts", ("--privileged",), f"{MOUNTS} | grep -E '^/(proc|sys) '; test -w /proc/sys/kernel/domainname"),
    OptionCase("guards-default", (), GUARDS),
    OptionCase("no-new-privileges", ("--security-opt", "no-new-privileges"), GUARDS),
    OptionCase("no-new-privileges-true", ("--security-opt", "no-new-privileges=true"), GUARDS),
    OptionCase("no-new-privileges-colon", ("--security-opt", "no-new-privileges:true"), GUARDS),
    OptionCase("no-new-privileges-false", ("--security-opt", "no-new-privileges:false"), GUARDS),
    OptionCase("no-new-privileges-invalid", ("--security-opt", "no-new-privileges=maybe"), GUARDS),
    OptionCase("seccomp-unconfined", ("--security-opt", "seccomp=unconfined"), GUARDS),
    OptionCase("seccomp-colon", ("--security-opt", "seccomp:unconfined"), GUARDS),
    OptionCase("seccomp-builtin", ("--security-opt", "seccomp=builtin"), GUARDS),
    OptionCase("seccomp-profile", ("--security-opt", "seccomp=@FILES/no-mkdir.json"), "mkdir /x; echo $?"),
    OptionCase("seccomp-missing", ("--security-opt", "seccomp=/no/such.json"), "true"),
    OptionCase("seccomp-not-json", ("--security-opt", "seccomp=@FILES/good.env"), "true",
               differs="the place in the file instead of Go's words",
               expected=Result(125, "", "CLIENT: compacting json for seccomp profile (@FILES/good.env) failed: invalid "
                               "character in line 1\n\nRun 'CLIENT run --help' for more information\n")),
    OptionCase("seccomp-privileged-profile", ("--privileged", "--security-opt", "seccomp=@FILES/no-mkdir.json"), "mkdir /x; echo $?"),
    OptionCase("apparmor", ("--security-opt", "apparmor=unconfined"), "true"),
    OptionCase("apparmor-profile", ("--security-opt", "apparmor=mine"), "true"),
    OptionCase("label-disable", ("--security-opt", "label=disable"), "true"),
    OptionCase("label-type", ("--security-opt", "label=type:svirt_t"), "true"),
    OptionCase("security-opt-unknown", ("--security-opt", "magic=on"), "true"),
    OptionCase("security-opt-no-value", ("--security-opt", "magic"), "true"),
    OptionCase("systempaths", ("--security-opt", "systempaths=unconfined"), inspect=("MaskedPaths", "ReadonlyPaths", "SecurityOpt")),
    OptionCase("systempaths-effect", ("--security-opt", "systempaths=unconfined"), "grep -c ' /proc/' /proc/self/mounts"),
    OptionCase("writable-cgroups", ("--security-opt", "writable-cgroups=true"), _at("/sys/fs/cgroup/pids")),
    OptionCase("writable-cgroups-invalid", ("--security-opt", "writable-cgroups=perhaps"), "true"),
    OptionCase("paths-default", (), inspect=("MaskedPaths", "ReadonlyPaths")),
    OptionCase("mounts-default", (), MOUNTS, crun=_CRUN_MOUNTS),
    OptionCase("read-only", ("--read-only",), f"touch /x; {MOUNTS}", crun=_CRUN_MOUNTS),
    OptionCase("read-only-tmpfs", ("--read-only", "--tmpfs", "/run"), "touch /run/x && echo yes; touch /x"),
    OptionCase("tmpfs", ("--tmpfs", "/scratch"), _at("/scratch")),
    OptionCase("tmpfs-options", ("--tmpfs", "/scratch:rw,exec,size=1m,mode=1770,uid=5,gid=6"), f"{_at('/scratch')}; ls -ldn /scratch | awk '{{print $1,$3,$4}}'"),
    OptionCase("tmpfs-read-only", ("--tmpfs", "/scratch:ro"), _at("/scratch")),
    OptionCase("tmpfs-invalid", ("--tmpfs", "/scratch:flying"), "true"),
    OptionCase("tmpfs-invalid-value", ("--tmpfs", "/scratch:size"), "true"),
    OptionCase("tmpfs-relative", ("--tmpfs", "scratch"), "true"),
    OptionCase("sysctl-net", ("--sysctl", "net.ipv4.ip_forward=1"), "cat /proc/sys/net/ipv4/ip_forward"),
    OptionCase("sysctl-ipc", ("--sysctl", "kernel.msgmax=4096"), "cat /proc/sys/kernel/msgmax"),
    OptionCase("sysctl-fs-mqueue", ("--sysctl", "fs.mqueue.msg_max=20"), "cat /proc/sys/fs/mqueue/msg_max"),
    OptionCase("sysctl-host", ("--sysctl", "vm.swappiness=10"), "true"),
    OptionCase("sysctl-kernel", ("--sysctl", "kernel.panic=1"), "true"),
    OptionCase("sysctl-net-host", ("--network", "host", "--sysctl", "net.ipv4.ip_forward=1"), "true", crun=_CRUN_WORDS),
    OptionCase("sysctl-ipc-host", ("--ipc", "host", "--sysctl", "kernel.msgmax=4096"), "true", crun=_CRUN_WORDS),
    OptionCase("sysctl-no-value", ("--sysctl", "net.ipv4.ip_forward"), "true"),
    OptionCase("sysctl-defaults", (), "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"),
)  # fmt: skip
_NAMESPACES = (
    OptionCase("namespaces-default", (), _namespaces("pid", "ipc", "uts", "cgroup", "net", "user", "mnt")),
    OptionCase("pid-host", ("--pid", "host"), _namespaces("pid", "ipc")),
    OptionCase("pid-invalid", ("--pid", "shared"), "true"),
    OptionCase("pid-container-missing", ("--pid", "container:nosuch"), "true"),
    OptionCase("pid-container-empty", ("--pid", "container:"), "true"),
    OptionCase("ipc-host", ("--ipc", "host"), f"{_namespaces('ipc', 'pid')}; {_at('/dev/mqueue')}"),
    OptionCase("ipc-private", ("--ipc", "private"), _namespaces("ipc")),
    OptionCase("ipc-shareable", ("--ipc", "shareable"), f"{_namespaces('ipc')}; {_at('/dev/shm')}"),
    OptionCase("ipc-none", ("--ipc", "none"), f"{_namespaces('ipc')}; {_at('/dev/shm')}; ls -d /dev/shm"),
    OptionCase("ipc-invalid", ("--ipc", "public"), "true"),
    OptionCase("ipc-container-missing", ("--ipc", "container:nosuch"), "true"),
    OptionCase("uts-host", ("--uts", "host"), _namespaces("uts")),
    OptionCase("uts-host-hostname", ("--uts", "host", "-h", "mine"), "true"),
    OptionCase("uts-invalid", ("--uts", "private"), "true"),
    OptionCase("cgroupns-private", ("--cgroupns", "private"), f"{_namespaces('cgroup')}; grep pids /proc/self/cgroup"),
    OptionCase("cgroupns-host", ("--cgroupns", "host"), _namespaces("cgroup")),
    OptionCase("cgroupns-invalid", ("--cgroupns", "mine"), "true"),
    OptionCase("userns-host", ("--userns", "host"), "cat /proc/self/uid_map"),
    OptionCase("userns-invalid", ("--userns", "mine"), "true"),
    OptionCase("network-none", ("--network", "none"), "ls /sys/class/net"),
    OptionCase("network-host", ("--network", "host"), _namespaces("net", "uts")),
    OptionCase("network-host-hostname", ("--network", "host", "-h", "mine"), "hostname"),
    OptionCase("modes-shown", ("--pid", "host", "--ipc", "shareable", "--uts", "host", "--userns", "host"),
               inspect=("PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode", "Privileged", "NetworkMode")),
)  # fmt: skip
_LIFE = (
    OptionCase("init", ("--init",), "cat /proc/1/comm; ls /sbin/docker-init"),
    OptionCase("init-shown", ("--init",), inspect=("Init",)),
    OptionCase("stop-signal", ("--stop-signal", "SIGUSR1", "--stop-timeout", "7"), inspect=("StopSignal", "StopTimeout")),
    OptionCase("stop-signal-number", ("--stop-signal", "10"), inspect=("StopSignal",)),
    OptionCase("stop-signal-invalid", ("--stop-signal", "SIGNOSUCH"), "true"),
    OptionCase("restart-shown", ("--restart", "on-failure:3"), inspect=("RestartPolicy",)),
    OptionCase("restart-always", ("--restart", "always"), inspect=("RestartPolicy",)),
    OptionCase("restart-count-always", ("--restart", "always:3"), inspect=("RestartPolicy",)),
    OptionCase("restart-unknown", ("--restart", "sometimes"), inspect=("RestartPolicy",)),
    OptionCase("restart-count-invalid", ("--restart", "on-failure:x"), "true"),
    OptionCase("restart-count-negative", ("--restart", "on-failure:-1"), inspect=("RestartPolicy",)),
    OptionCase("restart-empty-name", ("--restart", ":3"), "true"),
    OptionCase("restart-three-parts", ("--restart", "on-failure:1:2"), "true"),
    OptionCase("health-shown", ("--health-cmd", "test -e /x", "--health-interval", "3s", "--health-retries", "4",
                                "--health-timeout", "500ms", "--health-start-period", "1m",
                                "--health-start-interval", "2s"), inspect=("Healthcheck",)),
    OptionCase("no-healthcheck", ("--no-healthcheck",), inspect=("Healthcheck",)),
    OptionCase("no-healthcheck-and-cmd", ("--no-healthcheck", "--health-cmd", "x"), "true"),
    OptionCase("health-interval-negative", ("--health-interval", "-1s"), "true"),
    OptionCase("health-interval-too-small", ("--health-cmd", "x", "--health-interval", "1us"), "true"),
    OptionCase("health-retries-negative", ("--health-cmd", "x", "--health-retries", "-1"), "true"),
    OptionCase("health-timeout-invalid", ("--health-timeout", "soon"), "true"),
    OptionCase("log-opt", ("--log-opt", "max-size=1m", "--log-opt", "max-file=3"), inspect=("LogConfig",)),
    OptionCase("log-driver-none", ("--log-driver", "none"), inspect=("LogConfig",)),
    OptionCase("log-driver-unknown", ("--log-driver", "papyrus"), "true"),
    OptionCase("log-opt-with-none", ("--log-driver", "none", "--log-opt", "max-size=1m"), "true"),
    OptionCase("attach", ("-a", "STDERR"), "echo out; echo err >&2"),
    OptionCase("attach-invalid", ("-a", "stdxxx"), "true"),
    OptionCase("stop-timeout-invalid", ("--stop-timeout", "x"), "true"),
    OptionCase("dns-search-invalid", ("--dns-search", "bad domain"), "true"),
    OptionCase("publish-on-host-network", ("--network", "host", "-p", "80:80"), "true"),
    OptionCase("flag-value-false", ("--init=false", "--read-only=0"), "touch /x && cat /proc/1/comm"),
    OptionCase("flag-value-invalid", ("--init=perhaps",), "true"),
    OptionCase("cidfile-exists", ("--cidfile", "/etc/passwd"), "true"),
    OptionCase("pull-never", ("--pull", "never"), "echo pulled"),
    OptionCase("pull-invalid", ("--pull", "sometimes"), "true"),
    OptionCase("add-host", ("--add-host", "db:10.1.2.3", "--add-host", "six=::1"), "grep -wE 'db|six' /etc/hosts"),
    OptionCase("add-host-invalid", ("--add-host", "db"), "true"),
    OptionCase("add-host-address", ("--add-host", "db:nowhere"), "true"),
    OptionCase("dns", ("--dns", "10.9.9.9", "--dns-search", "example.org", "--dns-option", "ndots:3"),
               "grep -vE '^(#|$)' /etc/resolv.conf"),
    OptionCase("dns-invalid", ("--dns", "nowhere"), "true"),
    OptionCase("mac-address", ("--mac-address", "92:d0:c6:0a:29:33"), "cat /sys/class/net/eth0/address"),
    OptionCase("mac-address-invalid", ("--mac-address", "zz"), "true"),
    OptionCase("expose", ("--expose", "80", "--expose", "90-92/udp"), inspect=("ExposedPorts",)),
    OptionCase("expose-invalid", ("--expose", "http"), "true"),
    OptionCase("volume-driver", ("--volume-driver", "local", "-v", "/x"), "true"),
)  # fmt: skip

_WHOLE = (
    OptionCase("whole-default", (), inspect=EVERYTHING),
    OptionCase("whole-privileged", ("--privileged",), inspect=EVERYTHING),
    OptionCase("whole-host-modes", ("--pid", "host", "--network", "host", "--restart", "unless-stopped"), inspect=EVERYTHING),
    OptionCase("whole-many", (
        "-m", "64m", "--init", "--read-only", "--tmpfs", "/x", "--sysctl", "net.ipv4.ip_forward=1", "--device", "/dev/fuse",
        "--cap-add", "net_admin", "--group-add", "5", "--add-host", "a:1.2.3.4", "--annotation", "a=b", "--dns", "1.1.1.1",
        "--ulimit", "nofile=5", "--device-read-bps", "/dev/vda:1mb", "-it", "--network", "none", "--log-opt", "max-size=1m",
        "--security-opt", "no-new-privileges", "--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "7", "-p", "80",
        "--device-cgroup-rule", "c 1:3 r"), inspect=EVERYTHING),
)  # fmt: skip

CASES = (*_IDENTITY, *_ENVIRONMENT, *_RESOURCES, *_DEVICES, *_ISOLATION, *_NAMESPACES, *_LIFE, *_WHOLE)
