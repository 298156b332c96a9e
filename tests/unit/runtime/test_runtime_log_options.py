"""Options of log drivers as Docker reads them."""

from __future__ import annotations

import pytest

from tare.errors import InvalidArgument
from tare.model.container import LogConfig
from tare.runtime.log_options import LogDefaults, Rotation, check, complete_log_config, rotation_of


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("json-file", {}, Rotation(max_size=20_000_000, max_files=5, compress=False)),
        ("local", {}, Rotation(max_size=20_000_000, max_files=5, compress=True)),
        ("json-file", {"max-size": "10k"}, Rotation(max_size=10_000, max_files=5)),
        ("json-file", {"max-size": "1.5 MB", "max-file": "2", "compress": "true"}, Rotation(
            max_size=1_500_000, max_files=2, compress=True)),
        ("json-file", {"max-size": "-1"}, Rotation(max_size=None)),
        ("json-file", {"max-file": "1"}, Rotation(max_files=1)),
        ("local", {"max-file": "1"}, Rotation(max_files=1)),
        ("local", {"max-size": "3GiB", "compress": "F"}, Rotation(max_size=3_000_000_000)),
    ],
)  # fmt: skip
def test_rotation(driver: str, options: dict[str, str], expected: Rotation) -> None:
    assert rotation_of(driver, options) == expected


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("gelf", {}, 'error looking up logging plugin gelf: plugin "gelf" not found'),
        ("json-file", {"nope": "1"}, "unknown log opt 'nope' for json-file log driver"),
        ("local", {"nope": "1"}, "unknown log opt 'nope' for log driver local"),
        ("json-file", {"max-size": "-2"}, "failed to initialize logging driver: invalid size: '-2'"),
        ("json-file", {"max-size": "1zb"}, "failed to initialize logging driver: invalid suffix: 'zb'"),
        ("json-file", {"max-size": "0"}, "failed to initialize logging driver: max-size must be a positive number"),
        ("json-file", {"max-file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("json-file", {"compress": "maybe"}, 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("json-file", {"compress": "true", "max-file": "1"}, "compress cannot be true when max-file is less than 2"),
        ("json-file", {"mode": "fast"}, "logger: logging mode not supported: fast"),
        ("json-file", {"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
        ("json-file", {"env-regex": "("}, "error parsing regexp"),
        ("json-file", {"tag": "{{.Nope}}"}, "can't evaluate field .Nope"),
    ],
)
def test_wrong_options_are_refused(driver: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(driver, options)
    assert words in refused.value.message


def test_the_engines_defaults_hold_for_its_driver_alone() -> None:
    defaults = LogDefaults(driver="local", options={"max-size": "1m", "max-file": "2"})
    unnamed = LogConfig(config={"max-file": "3"})
    complete_log_config(unnamed, defaults)
    assert (unnamed.type, unnamed.config) == ("local", {"max-size": "1m", "max-file": "3"})
    other = LogConfig(type="json-file")
    complete_log_config(other, defaults)
    assert (other.type, other.config) == ("json-file", {})
