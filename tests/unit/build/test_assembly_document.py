"""``distroless.yaml``: what it means, and what is wrong with it, to the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tare.build.assembly.document import Document, read_document
from tare.build.assembly.schema import document_schema, schema_text
from tare.build.assembly.yaml_nodes import MAX_DEPTH, MAX_SIZE, DocumentError
from tare.model.assembly import PackageWish, SystemUser

DOCS = Path(__file__).parents[3] / "docs"

FULL = """\
version: 1
base: cc
release: 12
packages:
- zlib1g=1:1.2.13.dfsg-1
- name: libpq5
  version: 15.13-0+deb12u1
  slices: [libs, own]
- curl
slices:
  libpq5:
    own: [/etc/postgresql-common/*]
exclude:
  libldap-2.5-0: no directory is asked
accept-scripts: [curl]
architectures: [amd64, 386]
debug: true
dockerfile: build/Dockerfile
files:
- source: app
  target: /app/
- from: build
  source: [/a, /b]
  target: /opt/
  owner: 65532:65532
  mode: 0755
  exclude: ["**/*.pyc"]
- content: "PORT = 3.10\\n"
  target: /etc/app.conf
users:
- name: app
  uid: 1000
  home: /home/app
user: app
entrypoint: [/opt/a]
cmd: []
env:
  PORT: 8080
  VERSION: 3.10
  DEBUG: no
labels: {org.example.commit: 0012}
workdir: /app
ports: [8080, 53/udp]
volumes: [/data]
stop-signal: SIGINT
healthcheck:
  test: [/opt/a, check]
  interval: 1m30s
  retries: 3
"""


def document(text: str) -> Document:
    return read_document(text, "distroless.yaml").document


def test_everything_is_read_as_it_is_written() -> None:
    found = document(FULL)
    assert found.wishes() == (
        PackageWish(name="curl"),
        PackageWish(name="libpq5", version="15.13-0+deb12u1", slices=("libs", "own")),
        PackageWish(name="zlib1g", version="1:1.2.13.dfsg-1"),
    )
    assert found.env == {"PORT": "8080", "VERSION": "3.10", "DEBUG": "no"}
    assert (found.files[1].mode, found.labels, found.cmd) == ("0755", {"org.example.commit": "0012"}, [])
    assembly = found.assembly(None, 7)
    assert assembly.users == (SystemUser(name="app", uid=1000, home="/home/app"),)
    assert assembly.slices == {"libpq5": {"own": ("/etc/postgresql-common/*",)}}
    assert (assembly.base, assembly.release, assembly.epoch, assembly.debug) == ("cc", "12", 7, True)
    assert assembly.excluded == {"libldap-2.5-0": "no directory is asked"}
    assert assembly.accepted_scripts == {"curl"}


def test_the_defaults_are_safe() -> None:
    found = document("base: static\n")
    assert (found.user, found.workdir, found.entrypoint, found.debug) == ("65532", "/", None, False)
    assert document("\ufeffbase: static\n") == found


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("", "1:1", "the file is empty"),
        ("# only a comment\n", "1:1", "the file is empty"),
        ("- base\n", "1:1", "expected a mapping (name: value) at the top"),
        ("base: static\npakages: [curl]\n", "2:1", "unknown field pakages (did you mean packages?)"),
        ("stop_signal: SIGINT\n", "1:1", "unknown field stop_signal (did you mean stop-signal?)"),
        ("version: 2\n", "1:10", "'2' is not one of 1"),
        ("packages: curl\n", "1:11", 'expected a list, not the text "curl"'),
        ("packages:\n- [curl]\n", "2:3", "expected text or a mapping (name: value), not a list"),
        ("packages:\n- nam: curl\n", "2:3", "unknown field nam (did you mean name?)"),
        ("packages:\n- version: 1\n", "2:3", "name is missing"),
        ("packages: [Curl]\n", "1:12", "'Curl' is no name of a package"),
        ("packages:\n- curl\n- curl=1.0\n", "3:3", "package curl is there twice"),
        ("packages: [curl=]\n", "1:12", "'' is no version of a package"),
        ("packages:\n- name: curl\n  slices: []\n", "3:11", "package curl: no slice is named"),
        ("packages: [curl]\nexclude: {curl: why}\n", "2:11", "curl is in packages and in exclude"),
        ('exclude:\n  curl: ""\n', "2:9", "curl is excluded without a reason"),
        ("slices:\n  curl:\n    Libs: [/x]\n", "3:5", "'Libs' is no name of a slice"),
        ("slices:\n  curl:\n    libs: /x\n", "3:11", 'expected a list, not the text "/x"'),
        ("env:\n  A: 1\n  B: [1]\n", "3:6", "expected text, not a list"),
        ("env:\n  A:\n", "2:3", "A has no value"),
        ("env: {A: 1, A: 2}\n", "1:13", "A is there twice"),
        ("cmd: [a, ]\nenv: {1=2: x}\n", "2:7", "'1=2' is no name of a variable"),
        ("debug: yes\n", "1:8", 'expected true or false, not the text "yes"'),
        ("users:\n- {name: app, uid: x}\n", "2:20", 'expected a whole number, not the text "x"'),
        ("users:\n- {name: app, uid: 0}\n", "2:20", "expected a whole number >= 1"),
        ("users:\n- {name: nonroot, uid: 5}\n", "2:10", "there already is a user nonroot"),
        ("users:\n- {name: a, uid: 5}\n- {name: b, uid: 5}\n", "3:18", "there already is a user with the number 5"),
        ("files:\n- target: /a\n", "2:3", "source is missing"),
        ("files:\n- {source: a, content: b, target: /a}\n", "2:3", "source and content exclude each other"),
        ("files:\n- {source: a, target: app}\n", "2:23", "'app' is not absolute"),
        ("files:\n- {source: [a, b], target: /app}\n", "2:28", "the target of several sources is a directory"),
        ("files:\n- {source: 'https://a/b', target: /b}\n", "2:12", "https://a/b is an address"),
        ("files:\n- {content: x, target: /a/}\n", "2:24", "content needs the name of a file"),
        ("files:\n- {content: x, target: /a, from: b}\n", "2:28", "from means nothing beside content"),
        ("files:\n- {source: a, target: /a, mode: 99}\n", "2:33", "invalid mode '99'"),
        ("entrypoint: /app --port 80\n", "1:13", "entrypoint has to be a list, as there is no shell"),
        ("architectures: [amd64, x86]\n", "1:24", "'x86' is not one of 386, amd64, arm, arm64"),
        ("volumes: [/a, /a]\n", "1:15", "/a is there twice"),
        ("workdir: app\n", "1:10", "'app' is not absolute"),
        ("healthcheck:\n  test: [a]\n  interval: soon\n", "3:13", "invalid duration 'soon'"),
        ("healthcheck: {interval: 1s}\n", "1:14", "test is missing"),
        ("user: ''\n", "1:7", "user is empty"),
        ("base: &a static\n", "1:7", "anchors and aliases (&name, *name) are not supported"),
        ("base: !!python/name:os.system x\n", "1:7", "tags (tag:yaml.org,2002:python/name:os.system)"),
        ("base: static\n---\nbase: cc\n", "2:1", "a second document begins here"),
        ("files:\n\t- a\n", "2:1", "a tab where YAML allows none"),
        ("base: a: b\n", "1:8", "not YAML: mapping values are not allowed here"),
        ("base: [static\n", "2:1", "not YAML: expected ',' or ']'"),
        ("base: 'static\n", "2:1", "not YAML: found unexpected end of stream"),
        ("base: sta\x07tic\n", "1:10", "a control character"),
        ('base: "a\\0b"\n', "1:7", "text cannot contain NUL characters"),
        ('base: "\\ud83d"\n', "1:7", "text contains half a character"),
        ("? [a]\n: b\n", "1:3", "a key has to be text"),
        (f"base: {'[' * (MAX_DEPTH + 1)}\n", f"1:{6 + MAX_DEPTH}", f"more than {MAX_DEPTH} levels"),
        ("#" * MAX_SIZE + "\nbase: static\n", "1:1", "the file is too large"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, cause: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(text, "distroless.yaml")
    error = caught.value
    assert error.reason.startswith(cause)
    assert f"{error.line}:{error.column}" == place
    assert error.code in ("assembly-invalid", "assembly-syntax", "assembly-too-large")
    if text and len(text) < MAX_SIZE:
        assert str(error).startswith(f"distroless.yaml: {cause}")
        assert f"\ndistroless.yaml:{place}\n" in str(error)


def test_bombs_of_aliases_and_depth_cost_nothing() -> None:
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]" for n in range(9)]
    for text in ("\n".join(rows), "base: " + "[" * 100_000, "base: " + "{a: " * 50_000):
        with pytest.raises(DocumentError):
            read_document(text, "bomb.yaml")


def examples() -> list[Any]:
    """The declarative files in the documentation: blocks of YAML that begin with their name."""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        for block in page.read_text().split("```yaml\n")[1:]:
            text = block.split("```", 1)[0]
            if text.splitlines()[0].endswith(".yaml"):
                found.append(pytest.param(text, id=text.splitlines()[0].removeprefix("# ")))
    return found


def test_the_schema_is_up_to_date() -> None:
    hint = "run: .venv/bin/python -m tare.build.assembly.schema > docs/distroless.schema.json"
    assert (DOCS / "distroless.schema.json").read_text() == schema_text(), hint
    jsonschema.Draft202012Validator.check_schema(document_schema())


@pytest.mark.parametrize("text", [pytest.param(FULL, id="full"), *examples()])
def test_schema_and_reader_accept_the_examples(text: str) -> None:
    jsonschema.validate(yaml.safe_load(text), document_schema())
    document(text)


@pytest.mark.parametrize(
    "text",
    ["pakages: [curl]", "debug: maybe", "files: [{source: a}]", "users: [{name: a, uid: 0}]", "cmd: run", "env: [A]"],
)
def test_schema_and_reader_refuse_the_same(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), document_schema())
    with pytest.raises(DocumentError):
        document(text)


def test_every_field_is_in_the_documentation() -> None:
    page = (DOCS / "distroless-file.md").read_text()
    fields = {name for kind in document_schema()["$defs"].values() for name in kind["properties"]}
    assert {name for name in fields if f"`{name}`" not in page} == set()
    assert json.loads((DOCS / "distroless.schema.json").read_text()) == document_schema()
