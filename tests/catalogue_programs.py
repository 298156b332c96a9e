"""Programs on images of the catalogue: built, started as others than root on a read-only root, and talked to."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine_process import EngineProcess

SOURCES = Path(__file__).parents[1] / "examples" / "programs"
WAIT_SECONDS = 60
BUILD_SECONDS = 900
PASSWORD = "correct horse"


@dataclass(frozen=True)
class Running:
    """A container that runs."""

    engine: EngineProcess
    name: str
    address: str

    def log(self) -> str:
        done = self.engine.docker("logs", self.name)
        return (done.stdout + done.stderr).decode()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Return when the container has said ``text`` that often."""
        self.until(lambda: self.log().count(text) >= times)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < end, f"{self.name}: this does not come true:\n{self.log()}"
            assert self.engine.text("inspect", "-f", "{{.State.Running}}", self.name) == "true", self.log()
            time.sleep(0.05)

    def get(self, url: str, *, data: bytes | None = None, context: ssl.SSLContext | None = None) -> bytes:
        """The answer, from the first moment on at which somebody listens."""
        answer = b""

        def ask() -> bool:
            nonlocal answer
            try:
                with urllib.request.urlopen(url.format(self.address), data, timeout=20, context=context) as response:
                    answer = response.read()
            except ConnectionRefusedError:
                return False
            except urllib.error.URLError as error:
                if isinstance(error.reason, ConnectionRefusedError):
                    return False
                raise
            return True

        self.until(ask)
        return answer


@contextmanager
def running(
    engine: EngineProcess, name: str, image: str, *options: str, command: tuple[str, ...] = ()
) -> Iterator[Running]:
    """A container on a read-only root, whose processes belong to others than root; it ends by its own signal."""
    engine.docker("run", "-d", "--name", name, "--read-only", *options, image, *command)
    try:
        address = engine.text("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
        yield Running(engine, name, address)
        assert "0" not in users_of(engine, name)
        assert engine.text("diff", name) in ("", "C /run\nA /run/secrets\nA /run/secrets/key.p12"), "but mount points"
        engine.docker("stop", "--time", "30", name)
        state = json.loads(engine.text("inspect", "-f", "{{json .State}}", name))
        assert (state["ExitCode"], state["OOMKilled"]) in ((0, False), (143, False)), engine.docker("logs", name)
    finally:
        engine.docker("rm", "-f", "-v", name)


def users_of(engine: EngineProcess, name: str) -> set[str]:
    """The user ids of a container's processes."""
    lines = engine.text("top", name, "-o", "uid,pid").splitlines()
    assert len(lines) > 1
    return {line.split()[0] for line in lines[1:]}


def build(engine: EngineProcess, name: str, sources: Path | None = None) -> str:
    """The image of ``examples/programs/<name>`` or of ``sources``, which holds the proof."""
    image = f"programs-{name}"
    engine.docker("build", "-q", "-t", image, str(sources or SOURCES / name), timeout=BUILD_SECONDS)
    assert_proven(engine, image)
    return image


def assert_proven(engine: EngineProcess, image: str) -> None:
    """No shell, no package manager, no program beside those that the entrypoint needs."""
    done = engine.tare("audit", "--distroless", image, check=False)
    assert done.returncode == 0, done.stdout.decode()
    assert b"the proof holds" in done.stdout


def check_python(engine: EngineProcess) -> None:
    with running(engine, "python", build(engine, "python3")) as one:
        one.get("http://{}:8080/notes", data=b"first")
        (note,) = json.loads(one.get("http://{}:8080/notes?zone=Asia/Tokyo"))
        assert note["text"] == "first" and note["at"].endswith("+09:00")


def check_java(engine: EngineProcess, directory: Path) -> None:
    key, store = directory / "key.pem", directory / "key.p12"
    certificate = directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=service", "-days", "2",
         "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "pkcs12", "-export", "-inkey", key, "-in", certificate, "-out", store, "-passout", "pass:x"],
        check=True,
    )
    store.chmod(0o444)
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False  # the address is known only once it runs
    options = ("-v", f"{store}:/run/secrets/key.p12:ro", "-e", "KEY_PASSWORD=x", "--tmpfs", "/tmp")
    with running(engine, "java", build(engine, "java17"), *options) as one:
        assert one.get("https://{}:8443/", context=context) == b"hello over TLS from Java 17\n"


def check_node(engine: EngineProcess) -> None:
    with running(engine, "node", build(engine, "nodejs")) as one:
        assert json.loads(one.get("http://{}:8080/hello/world")) == {"hello": "world"}


def check_nginx(engine: EngineProcess) -> None:
    page = (SOURCES / "nginx/index.html").read_bytes()
    with running(engine, "nginx", build(engine, "nginx"), "--tmpfs", "/tmp") as one:
        assert one.get("http://{}:8080/") == page
        one.wait_for_log('"GET / HTTP/1.1" 200')


def check_cpp(engine: EngineProcess) -> None:
    image = build(engine, "cc")
    options = ("--rm", "--read-only", "--network", "none")
    assert engine.text("run", *options, image) == "78498 primes below 1000000"
    wrong = engine.docker("run", *options, image, "many", check=False)
    assert (wrong.returncode, wrong.stderr) == (2, b"primes: not a number: many (stoll)\n")


def client(engine: EngineProcess, image: str, program: str, *words: str, environment: Mapping[str, str]) -> str:
    """What a client of a ``-debug`` image says about a server."""
    options = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    return engine.text("run", "--rm", *options, "--entrypoint", program, image, *words)


@contextmanager
def volume(engine: EngineProcess, name: str) -> Iterator[str]:
    """A volume, gone in the end."""
    engine.docker("volume", "create", name)
    try:
        yield name
    finally:
        engine.docker("volume", "rm", "-f", name)


def check_postgresql(engine: EngineProcess, variant: str = "") -> None:
    """Make a cluster, start the server on it, write, start it again, read."""
    image = f"tare.local/distroless/postgresql:12{variant}"
    tools = f"tare.local/distroless/postgresql:12-debug{variant}"
    with volume(engine, "cluster") as data:
        place = ("-v", f"{data}:/var/lib/postgresql/data")
        engine.docker("run", "--rm", *place, "--entrypoint", "initdb", tools, "--username", "postgres")
        statement = f"ALTER USER postgres PASSWORD '{PASSWORD}'\n".encode()
        engine.docker("run", "-i", "--rm", *place, image, "--single", "postgres", stdin=statement)
        assert_proven(engine, image)
        with running(engine, "postgresql", image, *place, "--tmpfs", "/run/postgresql", "--tmpfs", "/tmp") as one:
            ready = "database system is ready to accept connections"
            one.wait_for_log(ready)

            def sql(statements: str, password: str = PASSWORD) -> str:
                words = ("-h", one.address, "-U", "postgres", "-qtAc", statements)
                return client(engine, tools, "psql", *words, environment={"PGPASSWORD": password})

            sql("CREATE TABLE notes (id serial PRIMARY KEY, text text); INSERT INTO notes (text) VALUES ('größer')")
            engine.docker("restart", "postgresql")
            one.wait_for_log(ready, 2)
            assert sql("SELECT id, text FROM notes") == "1|größer"
            dump = client(
                engine, tools, "pg_dump", "-h", one.address, "-U", "postgres", environment={"PGPASSWORD": PASSWORD}
            )
            assert "COPY public.notes (id, text) FROM stdin;\n1\tgrößer\n" in dump
            # extensions, ICU's collations and time zones are there
            assert sql("CREATE EXTENSION pgcrypto; SELECT encode(digest('x', 'md5'), 'hex')").startswith("9dd4e461")
            assert sql("SELECT 'a' < 'B' COLLATE \"de-x-icu\"") == "t"
            assert sql("SELECT to_char(timestamptz '2026-07-01 12:00Z' AT TIME ZONE 'Asia/Tokyo', 'HH24')") == "21"
            refused = engine.docker(
                "run", "--rm", "-e", "PGPASSWORD=wrong", "--entrypoint", "psql", tools, "-h", one.address,
                "-U", "postgres", "-c", "SELECT 1", check=False,
            )  # fmt: skip
            assert refused.returncode == 2 and b"password authentication failed" in refused.stderr


def check_mariadb(engine: EngineProcess, variant: str = "") -> None:
    """The same with MariaDB."""
    image = f"tare.local/distroless/mariadb:12{variant}"
    tools = f"tare.local/distroless/mariadb:12-debug{variant}"
    with volume(engine, "databases") as data:
        place = ("-v", f"{data}:/var/lib/mysql")
        engine.docker("run", "--rm", *place, "--entrypoint", "mariadb-install-db", tools, "--skip-test-db")
        accounts = (
            "FLUSH PRIVILEGES;\nCREATE DATABASE shop;\n"
            f"CREATE USER 'shop'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON shop.* TO 'shop'@'%';\n"
        )
        engine.docker("run", "-i", "--rm", *place, image, "--bootstrap", stdin=accounts.encode())
        assert_proven(engine, image)
        with running(engine, "mariadb", image, *place, "--tmpfs", "/run/mysqld", "--tmpfs", "/tmp") as one:
            one.wait_for_log("ready for connections")

            def sql(statements: str) -> str:
                words = ("-h", one.address, "-u", "shop", f"-p{PASSWORD}", "-N", "shop", "-e", statements)
                return client(engine, tools, "mariadb", *words, environment={"LANG": "C.UTF-8"})

            sql("CREATE TABLE notes (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT) ENGINE = InnoDB;"
                "INSERT INTO notes (text) VALUES ('größer')")  # fmt: skip
            engine.docker("restart", "mariadb")
            one.wait_for_log("ready for connections", 2)
            assert sql("SELECT id, text FROM notes") == "1\tgrößer"
            words = ("-h", one.address, "-u", "shop", f"-p{PASSWORD}", "--no-tablespaces", "shop")
            assert "VALUES\n(1,'größer')" in client(engine, tools, "mariadb-dump", *words, environment={})
