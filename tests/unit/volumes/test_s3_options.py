from __future__ import annotations

from pathlib import Path

import pytest

from tare.errors import Forbidden, InvalidArgument, NotFound
from tare.volumes.s3_options import check_credentials, parse_s3_options

GIVEN = {"bucket": "bucket-1", "credentials-file": "/root/keys"}


def test_command_line() -> None:
    options = parse_s3_options({**GIVEN, "endpoint": "https://s3.example:9000/", "prefix": "/a/b/", "region": "eu-1"})
    words = options.command(Path("/target"), Path("/log"))
    assert words[:3] == ["s3fs", "bucket-1:/a/b", "/target"]
    assert {"passwd_file=/root/keys", "url=https://s3.example:9000", "endpoint=eu-1"} <= set(words)
    plain = parse_s3_options({**GIVEN, "path-style": "false"}).command(Path("/target"), Path("/log"))
    assert plain[1] == "bucket-1" and "use_path_request_style" not in plain


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bucket", "b,allow_root"),
        ("bucket", "-o"),
        ("endpoint", "ftp://x"),
        ("endpoint", "http://x,passwd_file=/etc/shadow"),
        ("endpoint", "http://user:pass@x"),
        ("prefix", "a/../b"),
        ("prefix", "a,b"),
        ("prefix", "a:b"),
        ("region", "EU 1"),
        ("credentials-file", "relative"),
        ("credentials-file", "/a,url=http://x"),
        ("path-style", "yes"),
    ],
)
def test_values_that_are_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f'invalid value for option "{key}"'):
        parse_s3_options({**GIVEN, key: value})


def test_credentials(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    with pytest.raises(NotFound, match="no such file or directory"):
        check_credentials(keys)
    keys.write_text("# ours\nKEY:very-secret\n")
    for mode in (0o640, 0o604, 0o620):
        keys.chmod(mode)
        with pytest.raises(Forbidden, match="others could read or change it") as exposed:
            check_credentials(keys)
        assert "very-secret" not in str(exposed.value)
    keys.chmod(0o600)
    check_credentials(keys)
    keys.write_text("very-secret")
    with pytest.raises(InvalidArgument, match="has no line ACCESS_KEY:SECRET_KEY") as invalid:
        check_credentials(keys)
    assert "very-secret" not in str(invalid.value)
    with pytest.raises(InvalidArgument, match="is not a file"):
        check_credentials(Path("/dev/null"))
