"""Whatever stands behind an option: it is read, or refused with an error that names it; nothing else happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.cli import flag_documents, flags, limits
from tare.engine.option_checks import userns_size
from tare.engine.resource_limits import parse_number_list
from tare.engine.security_options import read_security
from tare.errors import InvalidArgument
from tare.model.container import HostConfig

_TEXT = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="0123456789:,=-+./ rwmacb*kgMinfdevunlms_", max_size=25),
    st.builds("{}:{}".format, st.sampled_from(["/dev/sda", "dev", "nofile=1", "auto", "c 1", ""]), st.text(max_size=8)),
)
_READERS: dict[str, Callable[[str], Any]] = {
    "bytes": lambda text: flags.read_bytes(text, "--memory"),
    "integer": lambda text: flags.read_integer(text, "--pids-limit"),
    "unsigned": lambda text: flags.read_integer(text, "--blkio-weight", kind="ParseUint"),
    "duration": lambda text: flags.read_duration(text, "--health-interval"),
    "cpus": flags.read_cpus,
    "swap": flags.read_swap,
    "swappiness": flags.read_swappiness,
    "weight": flags.read_weight_device,
    "bps": lambda text: flags.read_rate_device(text, "--device-read-bps"),
    "iops": lambda text: flags.read_rate_device(text, "--device-read-iops"),
    "device": flags.read_device,
    "rule": flags.read_device_rule,
    "sysctl": lambda text: flags.read_sysctls([text]),
    "restart": flags.read_restart,
    "mode": lambda text: flags.read_mode(text, "--pid", "PID", ("host",), container=True),
    "mac": flags.read_mac,
    "pairs": lambda text: flags.read_pairs([text], "--label"),
    "ulimit": limits.read_ulimit,
    "security": lambda text: flag_documents.read_security([text]),
    "hosts": lambda text: flag_documents.read_extra_hosts([text]),
    "dns": lambda text: flag_documents.read_dns([text]),
    "search": lambda text: flag_documents.read_dns_search([text]),
    "gpus": flag_documents.read_gpus,
    "userns": userns_size,
    "cpuset": lambda text: parse_number_list(text, "cpuset cpus"),
    "engine security": lambda text: read_security(HostConfig(security_opt=[text])),
}


@pytest.mark.parametrize("name", _READERS)
@given(text=_TEXT)
def test_a_value_is_read_or_refused(name: str, text: str) -> None:
    try:
        _READERS[name](text)
    except InvalidArgument as error:
        assert error.message


@given(number=st.integers(min_value=0, max_value=1 << 62))
def test_numbers_are_read_as_they_are(number: int) -> None:
    assert flags.read_integer(str(number), "--x") == number
    assert flags.read_bytes(str(number), "--x") == pytest.approx(number)


@given(
    path=st.text(alphabet="abc/", min_size=1, max_size=10).map(lambda text: "/dev/" + text),
    target=st.text(alphabet="abc/", min_size=1, max_size=10).map(lambda text: "/" + text),
    rights=st.sampled_from(["r", "w", "m", "rw", "rm", "mr", "rwm"]),
)
def test_devices_are_read_in_every_form(path: str, target: str, rights: str) -> None:
    document = {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
    assert flags.read_device(path) == document
    assert flags.read_device(f"{path}:{rights}") == {**document, "CgroupPermissions": rights}
    assert flags.read_device(f"{path}:{target}") == {**document, "PathInContainer": target}
    assert flags.read_device(f"{path}:{target}:{rights}") == {
        "PathOnHost": path, "PathInContainer": target, "CgroupPermissions": rights,
    }  # fmt: skip
