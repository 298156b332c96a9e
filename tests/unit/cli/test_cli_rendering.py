from __future__ import annotations

import io

import pytest
from rich.console import Console

from tare.cli.build_plain import PlainView, show_failure
from tare.cli.build_tree import TreeView
from tare.cli.build_weighing import Weight, heaviest, weigh_stages
from tare.cli.listing import ports_text
from tare.cli.run import failure_status
from tare.cli.tables import align, listing, shorten
from tare.cli.template import Template
from tare.cli.units import ago, human_binary, human_duration, human_size, parse_rfc3339
from tare.errors import ExecutableError, InternalError, InvalidArgument


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.23kB"), (5242880, "5.24MB"), (1_236_000_000, "1.24GB")],
)
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


def test_binary_sizes() -> None:
    assert human_binary(8 << 30) == "8GiB"
    assert human_binary(7_812_345_678) == "7.276GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"),
        (60, "About a minute"), (119, "About a minute"),
        (120, "2 minutes"), (3600, "About an hour"), (7200, "2 hours"), (86400 * 2, "2 days"), (86400 * 14, "2 weeks"),
        (86400 * 60, "2 months"), (86400 * 800, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_ago() -> None:
    assert ago(990, 1000) == "10 seconds ago"
    assert ago(0, 1000) == "N/A"


def test_rfc3339_with_nanoseconds() -> None:
    assert parse_rfc3339("2026-01-01T00:00:00.123456789Z") == pytest.approx(1767225600.123456789)
    assert parse_rfc3339("0001-01-01T00:00:00Z") == 0.0


def test_tables_align_as_docker_aligns_them() -> None:
    text = align([["DRIVER", "VOLUME NAME"], ["local", "v1"]])
    assert text == "DRIVER    VOLUME NAME\nlocal     v1\n"


def test_long_cells_get_three_blanks() -> None:
    assert align([["A", "B"], ["x" * 20, "y"]]).splitlines()[0] == "A" + " " * 22 + "B"


ROWS = [{"ID": "1", "Names": "a"}, {"ID": "2", "Names": "b"}]
TITLES = {"ID": "CONTAINER ID", "Names": "NAMES"}


def test_listings() -> None:
    assert listing(ROWS, TITLES, ("ID", "Names"), "{{.Names}}") == "a\nb\n"
    assert listing(ROWS, TITLES, ("ID", "Names"), "json").splitlines()[0] == '{"ID":"1","Names":"a"}'
    table = listing(ROWS, TITLES, ("ID", "Names"), r"table {{.Names}}\t{{.ID}}")
    assert table.splitlines() == ["NAMES     CONTAINER ID", "a         1", "b         2"]


def test_shorten() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


DOCUMENT = {
    "Id": "x",
    "State": {"Status": "running", "Running": True, "Pid": 7},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"com.example": "v"}},
    "Networks": {"n1": {"IPAddress": "10.0.0.2"}, "n0": {"IPAddress": "10.0.0.1"}},
    "Empty": None,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.State.Status}}", "running"),
        ("{{ .State.Running }}/{{.State.Pid}}", "true/7"),
        ("{{json .State}}", '{"Status":"running","Running":true,"Pid":7}'),
        ("{{.State | json}}", '{"Status":"running","Running":true,"Pid":7}'),
        ("{{range .Config.Env}}{{.}};{{end}}", "A=1;B=2;"),
        ("{{range $k, $v := .Networks}}{{$k}}={{$v.IPAddress}} {{end}}", "n0=10.0.0.1 n1=10.0.0.2 "),
        ('{{index .Config.Labels "com.example"}}', "v"),
        ('{{(index .Networks "n0").IPAddress}}', "10.0.0.1"),
        ('{{(index .Networks "n0") .State.Running}}', None),
        ('{{join .Config.Env ","}}', "A=1,B=2"),
        ("{{len .Config.Env}}", "2"),
        ("{{if .State.Running}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Empty}}yes{{else}}no{{end}}", "no"),
        ("{{with .State}}{{.Pid}}{{end}}", "7"),
        ("{{.Empty}}", "<no value>"),
        ("{{upper .State.Status}}", "RUNNING"),
        ("a {{- .Id -}} b", "axb"),
        (r"{{.Id}}\t!", "x\t!"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
    ],
)
def test_templates(template: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(InvalidArgument, match="template parsing error"):
            Template(template).render(DOCUMENT)
    else:
        assert Template(template).render(DOCUMENT) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{.Nope}}",
        "{{",
        "{{.Id",
        "{{end}}",
        "{{if .Id}}",
        "{{printf .Id}}",
        "{{.Id.X}}",
        "{{$x}}",
        "{{}}",
        "{{range .Id}}{{end}}",
    ],
)
def test_templates_refused(template: str) -> None:
    with pytest.raises(InvalidArgument, match="template parsing error"):
        Template(template).render(DOCUMENT)


def test_ports_column() -> None:
    def port(inside: int, outside: int | None = None, address: str = "0.0.0.0") -> dict[str, object]:
        public = {"IP": address, "PublicPort": outside} if outside else {}
        return {"PrivatePort": inside, "Type": "tcp", **public}

    assert ports_text([port(80)]) == "80/tcp"
    assert ports_text([port(80, 8080)]) == "0.0.0.0:8080->80/tcp"
    assert ports_text([port(80, 8080), port(81, 8081)]) == "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp"
    assert ports_text([port(90, 90), port(91, 91), port(5), port(6)]) == "5-6/tcp, 0.0.0.0:90-91->90-91/tcp"
    assert ports_text([port(80, 8080, "::1"), port(443)]) == "443/tcp, [::1]:8080->80/tcp"


def test_exit_status_of_run() -> None:
    assert failure_status(ExecutableError("x", exit_code=126)) == 126
    assert failure_status(InternalError('exec: "x": executable file not found in $PATH')) == 127
    assert failure_status(InternalError('exec: "/etc": permission denied')) == 126
    assert failure_status(InternalError("port is already allocated")) == 125


EVENTS = [
    {"event": "plan", "vertices": [{"id": "v1", "index": 1, "total": 1, "stage": "a", "name": "[a 1/1] RUN x"}]},
    {"event": "started", "id": "v1", "name": "[a 1/1] RUN x", "stage": "a", "index": 1},
    {"event": "output", "id": "v1", "stream": "stdout", "data": "one\ntw"},
    {"event": "output", "id": "v1", "stream": "stdout", "data": "o\nrest"},
    {"event": "notice", "id": "", "text": "careful", "level": "warning"},
    {"event": "done", "id": "v1", "index": 1, "cached": False, "seconds": 1.25, "bytes": 5000, "result": ""},
]


def test_plain_build(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView()
    for event in EVENTS:
        view.show(event)
    assert capsys.readouterr().err.splitlines() == [
        "#1 [a 1/1] RUN x", "#1 one", "#1 two", "WARNING: careful", "#1 rest", "#1 DONE 1.2s, 5kB",
    ]  # fmt: skip


def test_tree_build() -> None:
    screen = io.StringIO()
    with TreeView(Console(file=screen, force_terminal=True, width=100)) as view:
        for event in EVENTS:
            view.show(event)
    text = screen.getvalue()
    assert "1/1 steps" in text
    assert "✔" in text
    assert "1/1 RUN x" in text
    assert "1.2s     5kB" in text


def test_failed_build(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"event": "error", "message": "exit code: 7", "output": ["two"], "place": "Dockerfile:2"}
    show_failure(event, {})
    assert capsys.readouterr().err.splitlines() == [
        "------", " > two", "------", "Dockerfile:2", "ERROR: failed to build: exit code: 7",
    ]  # fmt: skip


def test_weigh_in() -> None:
    ledger = [
        {"stage": "build", "bytes": 10, "shipped": False},
        {"stage": "final", "bytes": 3, "shipped": True},
        {"stage": "build", "bytes": 5, "shipped": False},
    ]
    assert weigh_stages(ledger) == {"build": Weight(0, 15), "final": Weight(3, 0)}


def test_the_heaviest_instructions_come_first_and_small_ones_not_at_all() -> None:
    def line(text: str, size: int, rewritten: int = 0) -> dict[str, object]:
        return {"text": text, "bytes": size, "shipped": True, "rewritten": rewritten, "file": "Dockerfile", "line": 3}

    ledger = [line("COPY a", 300_000), line("RUN big", 9_000_000, 200_000), line("RUN tiny", 10)]
    assert heaviest(ledger, 9_300_010) == [
        "heaviest",
        "        9MB  Dockerfile:3  RUN big",
        "      300kB  Dockerfile:3  COPY a",
        "written twice",
        "      200kB  Dockerfile:3  RUN big of lower layers replaced or deleted",
    ]
