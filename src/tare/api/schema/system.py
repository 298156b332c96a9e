"""``version`` and ``info`` as the API gives them (SystemVersion, SystemInfo)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tare import __version__
from tare.api.versions import API_VERSION, MIN_API_VERSION
from tare.api.wording import format_time

if TYPE_CHECKING:
    from tare.engine.system import SystemInfo

_INFO_DEFAULTS: dict[str, Any] = {
    "ID": "",
    "Containers": 0,
    "ContainersRunning": 0,
    "ContainersPaused": 0,
    "ContainersStopped": 0,
    "Images": 0,
    "Driver": "",
    "DriverStatus": [],
    "DockerRootDir": "",
    "Plugins": {
        "Volume": ["local"],
        "Network": ["bridge", "host", "null"],
        "Authorization": None,
        "Log": ["journald", "json-file", "local"],
    },
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsPeriod": True,
    "CpuCfsQuota": True,
    "CPUShares": True,
    "CPUSet": True,
    "PidsLimit": True,
    "OomKillDisable": False,
    "IPv4Forwarding": True,
    "Debug": False,
    "NFd": 0,
    "NGoroutines": 0,
    "SystemTime": "",
    "LoggingDriver": "json-file",
    "CgroupDriver": "cgroupfs",
    "CgroupVersion": "1",
    "NEventsListener": 0,
    "KernelVersion": "",
    "OperatingSystem": "",
    "OSVersion": "",
    "OSType": "linux",
    "Architecture": "",
    "IndexServerAddress": "https://index.docker.io/v1/",
    "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
    "NCPU": 0,
    "MemTotal": 0,
    "GenericResources": None,
    "HttpProxy": "",
    "HttpsProxy": "",
    "NoProxy": "",
    "Name": "",
    "Labels": [],
    "ExperimentalBuild": False,
    "ServerVersion": __version__,
    "Runtimes": {},
    "DefaultRuntime": "",
    "Swarm": {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    },
    "LiveRestoreEnabled": True,
    "Isolation": "",
    "InitBinary": "",
    "ContainerdCommit": {"ID": ""},
    "RuncCommit": {"ID": ""},
    "InitCommit": {"ID": ""},
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "CDISpecDirs": [],
    "Warnings": [],
}


def render_info(info: SystemInfo, *, now: float) -> dict[str, Any]:
    """SystemInfo of the API: the engine's facts over the values that hold for every engine."""
    return {
        **_INFO_DEFAULTS,
        "Containers": info.containers,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "Driver": info.driver,
        "LoggingDriver": info.log_driver,
        "DockerRootDir": info.data_root,
        "SystemTime": format_time(now),
        "CgroupVersion": info.cgroup_version,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "Architecture": info.architecture,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "Name": info.name,
        "Labels": [f"{name}={value}" for name, value in info.labels.items()],
        "ServerVersion": info.version,
        "Runtimes": {name: {"path": path} for name, path in info.runtimes.items()},
        "InitBinary": info.init_binary,
        "MemoryLimit": info.limits.memory,
        "SwapLimit": info.limits.swap,
        "CpuCfsPeriod": info.limits.cpu_quota,
        "CpuCfsQuota": info.limits.cpu_quota,
        "CPUShares": info.limits.cpu_shares,
        "CPUSet": info.limits.cpuset,
        "PidsLimit": info.limits.pids,
        "OomKillDisable": info.limits.oom_kill_disable,
        "SecurityOptions": [
            *(f"name={name}" for name in info.security_modules),
            *_INFO_DEFAULTS["SecurityOptions"],
        ],
        "DefaultRuntime": info.runtime,
        "RuncCommit": {"ID": info.runtime_version},
        "Warnings": list(info.warnings),
    }


def render_version(facts: Mapping[str, str]) -> dict[str, Any]:
    """SystemVersion, from the engine's version facts."""
    common = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": facts["os"],
        "Arch": facts["architecture"],
        "KernelVersion": facts["kernel"],
        "BuildTime": "",
    }
    engine = {
        "Name": "Engine",
        "Version": facts["version"],
        "Details": {**common, "Experimental": "false"},
    }
    runtime = {"Name": facts["runtime"], "Version": facts["runtime_version"], "Details": {"GitCommit": ""}}
    return {
        "Platform": {"Name": "Tare Engine"},
        "Version": facts["version"],
        **common,
        "Components": [engine, runtime],
    }
