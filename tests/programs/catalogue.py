"""A real program of its kind on every image of the catalogue, built from its sources; ``make test-programs``.

Compilers and packages of other ecosystems are fetched for that, which takes minutes: the suite has a part of it in
``tests/e2e/test_catalogue.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import catalogue_programs as programs
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_python_web_service(engine: EngineProcess) -> None:
    programs.check_python(engine)


def test_java_service_with_tls(engine: EngineProcess, tmp_path: Path) -> None:
    programs.check_java(engine, tmp_path)


def test_express_service(engine: EngineProcess) -> None:
    programs.check_node(engine)


def test_nginx_page(engine: EngineProcess) -> None:
    programs.check_nginx(engine)


def test_cpp_program(engine: EngineProcess) -> None:
    programs.check_cpp(engine)


@pytest.mark.parametrize("variant", ["", "-nonroot"])
def test_postgresql_with_data(engine: EngineProcess, variant: str) -> None:
    programs.check_postgresql(engine, variant)


@pytest.mark.parametrize("variant", ["", "-nonroot"])
def test_mariadb_with_data(engine: EngineProcess, variant: str) -> None:
    programs.check_mariadb(engine, variant)
