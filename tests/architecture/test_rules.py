"""The rules of the source tree, checked from its syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tare.errors

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tare"
FILE_LINES = 600
FUNCTION_LINES = 60
MODULES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(), str(path)) for path in MODULES}
FORBIDDEN_NAMES = frozenset({"utils.py", "util.py", "helpers.py", "common.py", "misc.py"})
MUTABLE_CALLS = frozenset(
    {"dict", "list", "set", "defaultdict", "deque", "OrderedDict", "Counter", "WeakValueDictionary"}
)
HOSTS = re.compile(
    r"(?:deb|ftp|security|archive|snapshot)\.debian\.org|archive\.ubuntu\.com|pypi\.org|files\.pythonhosted\.org"
    r"|registry\.npmjs\.org|registry\.yarnpkg\.com|repo1?\.maven\.org|registry-1\.docker\.io|quay\.io|ghcr\.io"
)


def inside(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def calls(tree: ast.AST, name: str) -> list[int]:
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    return (
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def tracked() -> list[Path]:
    """Files of the repository that are there: known to git or new, but not ignored."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        names = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked source archive
        names = [path for top in ("src", "tests", "docs", "examples", "scripts") for path in (ROOT / top).rglob("*")]
    return [path for path in names if path.is_file()]


def test_only_one_module_imports_pyroute2() -> None:
    users = {path for path, tree in TREES.items() if "pyroute2" in {name.split(".")[0] for name in imports(tree)}}
    assert {inside(path) for path in users} == {"network/netlink.py"}


def test_only_one_module_uses_libnftables() -> None:
    users = {
        inside(path)
        for path, tree in TREES.items()
        if any("libnftables" in text and ".so" in text for _, text in strings(tree))
        or any(text == "nft" for _, text in strings(tree))
    }
    assert users == {"network/firewall.py"}


def test_only_the_runtime_room_names_an_oci_runtime() -> None:
    users = {
        inside(path)
        for path, tree in TREES.items()
        if any(text in ("runc", "crun", "conmon") for _, text in strings(tree))
    }
    allowed = {
        "runtime/oci_runtime.py",
        "runtime/conmon.py",
        "runtime/probe.py",
        "runtime/host.py",
        "runtime/supervisor.py",
        "runtime/filters.py",
    }
    assert {user for user in users if not user.startswith("doctor/")} <= allowed


def test_only_the_error_map_knows_the_status_of_errors() -> None:
    status = re.compile(r"\bstatus\s*=\s*[45]\d\d\b")
    users = {inside(path) for path in MODULES if status.search(path.read_text())}
    assert users <= {"api/errormap.py", "api/routes/system.py"}  # the latter: no swarm, which is no error of Tare's


def test_every_error_has_a_status() -> None:
    from tare.api.errormap import status_of

    kinds = [
        kind for kind in vars(tare.errors).values() if isinstance(kind, type) and kind is not tare.errors.TareError
    ]
    assert len(kinds) > 10
    mapped = (ROOT / "src/tare/api/errormap.py").read_text()
    for kind in kinds:
        if issubclass(kind, tare.errors.TareError):
            names = [base.__name__ for base in kind.__mro__ if base.__module__ == "tare.errors"]
            assert any(f"({name}, " in mapped for name in names if name != "TareError"), kind
            options = {"exit_code": 126} if kind is tare.errors.ExecutableError else {}
            assert 300 <= status_of(kind("it failed", **options)) < 600


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_module(path: Path) -> None:
    """Length, docstrings, prints, exits and module-level state of one module."""
    assert list(_complaints(path, TREES[path])) == []


def _complaints(path: Path, tree: ast.Module) -> Iterator[str]:
    lines = len(path.read_text().splitlines())
    if lines > FILE_LINES:
        yield f"{lines} lines, more than {FILE_LINES}"
    if path.name in FORBIDDEN_NAMES:
        yield "a name that says nothing"
    if tree.body and ast.get_docstring(tree) is None:
        yield "no docstring"
    yield from _undocumented(tree.body)
    for function in functions(tree):
        length = (function.end_lineno or 0) - function.lineno + 1
        limit = FUNCTION_LINES
        if length > limit:
            yield f"{function.name}: {length} lines, more than {limit}"
    if not inside(path).startswith("cli/"):
        yield from (f"line {line}: print" for line in calls(tree, "print"))
    # A command of the command line is an entry point, as main is.
    if path.name != "main.py" and not inside(path).startswith("cli/"):
        for name in ("sys.exit", "os._exit", "exit", "quit"):
            yield from (f"line {line}: {name} outside an entry point" for line in calls(tree, name))
    yield from _module_state(tree)


def _undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        overload = any(ast.unparse(item) in ("overload", "override") for item in node.decorator_list)
        if ast.get_docstring(node) is None and not overload:
            yield f"{prefix}{node.name}: no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, f"{prefix}{node.name}.")


def _module_state(tree: ast.Module) -> Iterator[str]:
    """Constants may be literals that nobody changes (upper case); anything else at module level may not be mutable."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        literal = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
        made = isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in MUTABLE_CALLS
        for target in targets:
            name = ast.unparse(target)
            constant = name.lstrip("_").isupper() and not (made and not value.args)  # type: ignore[attr-defined]
            if (literal or made) and not constant and name != "__all__":
                yield f"line {node.lineno}: {name} is mutable"
    changed = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    yield from (f"{name} is changed by a global statement" for name in sorted(changed))


def test_nothing_runs_at_import() -> None:
    """Expression statements at module level are docstrings or the main guard, never calls."""
    found = [
        f"{inside(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert found == []


def test_the_package_is_cheap_to_import() -> None:
    heavy = ("aiohttp", "msgspec", "pyroute2", "sqlite3", "rich", "asyncio")
    code = f"import sys, tare, tare.errors; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


def test_the_model_is_free_of_input_and_output() -> None:
    forbidden = {"asyncio", "socket", "subprocess", "pathlib.Path", "sqlite3", "aiohttp", "os"}
    found = {
        (inside(path), name)
        for path, tree in TREES.items()
        if inside(path).startswith("model/")
        for name in imports(tree)
    }
    assert {name for _, name in found} & forbidden == set()


def test_no_address_of_an_archive_or_registry_is_in_the_tree() -> None:
    own = Path(__file__)
    found = []
    for path in tracked():
        if path == own or path.suffix in (".png", ".gz", ".deb", ".zst"):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if HOSTS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_paths_named_in_the_documents_exist() -> None:
    missing = []
    shape = re.compile(r"`((?:src|tests|docs|examples|scripts|bench|\.ci)/[\w./-]+)`")
    for document in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for name in shape.findall(document.read_text()):
            if not (ROOT / name).exists():
                missing.append(f"{document.relative_to(ROOT)}: {name}")
    assert missing == []


def test_links_in_the_documents_lead_somewhere() -> None:
    missing = []
    for document in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                missing.append(f"{document.relative_to(ROOT)}: {target}")
    assert missing == []


def test_the_changelog_has_a_place_for_what_is_new() -> None:
    assert re.search(r"^## \[?Unreleased\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_names_of_test_files_are_unique() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
