"""What a container sees of the machine, and what it is kept from."""

from __future__ import annotations

import json

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]


def inside(host: EngineProcess, *options: str, script: str) -> list[str]:
    return host.text("run", "--rm", *options, "busybox", "sh", "-c", script).splitlines()


def test_environment_directory_user_and_host_name(host: EngineProcess) -> None:
    options = ("-e", "A=1 2", "-w", "/made/here", "-u", "guest", "-h", "named")
    seen = inside(host, *options, script='echo "$A"; pwd; id -un; hostname; echo $HOSTNAME; cat /etc/hostname')
    assert seen == ["1 2", "/made/here", "guest", "named", "named", "named"]


def test_numeric_user_and_groups(host: EngineProcess) -> None:
    assert inside(host, "-u", "1000:1001", "--group-add", "10", script="id -u; id -g; id -G") == [
        "1000",
        "1001",
        "1001 10",
    ]


def test_process_ids_begin_at_one(host: EngineProcess) -> None:
    assert inside(host, script="echo $$; ls -d /proc/[0-9]* | head -1") == ["1", "/proc/1"]


def test_read_only_root(host: EngineProcess) -> None:
    seen = inside(
        host, "--read-only", "--tmpfs", "/scratch:size=1m", script="touch /x 2>&1; touch /scratch/y && echo fine"
    )
    assert seen == ["touch: /x: Read-only file system", "fine"]


def test_tmpfs_options(host: EngineProcess) -> None:
    seen = inside(host, "--tmpfs", "/t:size=1m,mode=700", script="grep ' /t ' /proc/mounts; stat -c %a /t")
    assert seen[0].split()[2] == "tmpfs"
    assert "size=1024k" in seen[0]
    assert {"nosuid", "nodev", "noexec"} <= set(seen[0].split()[3].split(","))
    assert seen[1] == "700"


def test_capabilities(host: EngineProcess) -> None:
    script = "grep CapEff /proc/self/status | cut -f2"
    assert inside(host, script=script) == ["00000000a80425fb"]
    assert inside(host, "--cap-drop", "ALL", script=script) == ["0000000000000000"]
    assert inside(host, "--cap-drop", "ALL", "--cap-add", "CHOWN", script=script) == ["0000000000000001"]
    assert inside(host, "-u", "guest", script=script) == ["0000000000000000"]
    seen = inside(host, "--cap-drop", "CHOWN", script="touch /f; chown guest /f 2>&1; true")
    assert seen == ["chown: /f: Operation not permitted"]


def test_memory_and_process_limits_are_in_the_cgroup(host: EngineProcess) -> None:
    host.docker("run", "-d", "--name", "small", "--memory", "32m", "--pids-limit", "50", "busybox", "sleep", "1000")
    script = (
        "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes; "
        "cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max"
    )
    assert host.text("exec", "small", "sh", "-c", script).split() == [str(32 << 20), "50"]
    assert host.text("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}", "small") == f"{32 << 20} 50"


def test_pids_limit_holds(host: EngineProcess) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all"
    ended = host.docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script, check=False)
    assert b"can't fork" in ended.stderr
    assert b"all" not in ended.stdout


def test_memory_limit_kills_and_says_so(host: EngineProcess) -> None:
    command = ("sh", "-c", "head -c 100m /dev/zero | tail")
    options = ("--memory", "16m", "--memory-swap", "16m")
    host.docker("run", "--name", "greedy", *options, "busybox", *command, check=False)
    assert host.text("inspect", "-f", "{{.State.OOMKilled}}", "greedy") == "true"


def test_ulimit_and_sysctl(host: EngineProcess) -> None:
    seen = inside(
        host, "--ulimit", "nofile=123:456", "--sysctl", "net.ipv4.ip_forward=0",
        script="ulimit -Sn; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward",
    )  # fmt: skip
    assert seen == ["123", "456", "0"]


@pytest.mark.parametrize(
    ("call", "answer"),
    [("keyctl", "Operation not permitted"), ("bpf", "Operation not permitted"), ("mount", "Operation not permitted")],
)
def test_system_calls_that_are_refused(host: EngineProcess, probe: str, call: str, answer: str) -> None:
    assert host.text("run", "--rm", probe, "syscall", call) == f"{call}: {answer}"


def test_other_system_calls_work_and_the_filter_can_be_left_out(host: EngineProcess, probe: str) -> None:
    assert host.docker("run", "--rm", probe, "syscall", "getpid", check=False).stdout == b"getpid: allowed\n"
    ended = host.docker("run", "--rm", "--security-opt", "seccomp=unconfined", probe, "syscall", "keyctl", check=False)
    assert b"Operation not permitted" not in ended.stdout
    status = ("run", "--rm", "busybox", "grep", "Seccomp:", "/proc/self/status")
    assert host.text(*status).split() == ["Seccomp:", "2"]


def test_no_new_privileges(host: EngineProcess) -> None:
    script = "grep NoNewPrivs /proc/self/status | cut -f2"
    assert inside(host, script=script) == ["0"]
    assert inside(host, "--security-opt", "no-new-privileges", script=script) == ["1"]


def test_masked_and_read_only_paths(host: EngineProcess) -> None:
    script = (
        "for path in kcore keys timer_list; do [ ! -e /proc/$path ] || wc -c < /proc/$path; done; "
        "[ ! -e /sys/firmware ] || ls -A /sys/firmware | wc -l; [ ! -e /proc/acpi ] || ls -A /proc/acpi | wc -l; "
        "echo 1 2>/dev/null > /proc/sys/kernel/printk || echo refused"
    )
    seen = [line for line in inside(host, script=script) if "printk" not in line]
    assert seen[-1] == "refused"
    assert set(seen[:-1]) == {"0"}
    masked = json.loads(host.docker("inspect", "--format", "{{json .HostConfig.MaskedPaths}}", _sleeper(host)).stdout)
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(masked)


def _sleeper(host: EngineProcess) -> str:
    return host.text("run", "-d", "busybox", "sleep", "1000")


def test_devices(host: EngineProcess) -> None:
    seen = inside(
        host, script="ls -1 /dev | sort | tr '\\n' ' '; head -c 4 /dev/zero | wc -c; cat /dev/mem 2>&1 | head -1"
    )
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd"} <= set(
        seen[0].split()
    )
    assert "mem" not in seen[0].split()


def test_shared_memory_size(host: EngineProcess) -> None:
    assert inside(host, "--shm-size", "8m", script="df -k /dev/shm | tail -1 | awk '{print $2}'") == ["8192"]


def test_hosts_and_resolver_files(host: EngineProcess) -> None:
    options = ("--add-host", "extra:10.1.2.3", "--dns", "192.0.2.1", "--dns-search", "example.test")
    seen = inside(host, *options, script="cat /etc/hosts; echo ---; cat /etc/resolv.conf")
    split = seen.index("---")
    assert any(line.split() == ["10.1.2.3", "extra"] for line in seen[:split])
    assert any(line.split()[:2] == ["127.0.0.1", "localhost"] for line in seen[:split])
    assert "nameserver 192.0.2.1" in seen[split:]
    assert any(line.split()[0] == "search" and "example.test" in line for line in seen[split:] if line)


def test_root_changes_stay_in_the_container(host: EngineProcess) -> None:
    host.docker("run", "--rm", "busybox", "sh", "-c", "rm /etc/passwd; echo x > /new")
    assert inside(host, script="ls /etc/passwd; ls /new 2>&1; true") == [
        "/etc/passwd",
        "ls: /new: No such file or directory",
    ]


def test_entrypoint_and_command(host: EngineProcess) -> None:
    assert host.text("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b"
    refused = host.docker("run", "--rm", "--entrypoint", "", "probe", check=False)
    assert (refused.returncode, b"no command specified" in refused.stderr) == (125, True)
