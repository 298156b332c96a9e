from __future__ import annotations

import pytest

from tare.distroless.packages import Package, PackageIndex, encode_compact, parse_packages
from tare.distroless.resolver import Exclusions, Wish, resolve
from tare.errors import Conflict, DataCorrupt, NotFound


def stanza(name: str, version: str = "1", **fields: str) -> str:
    lines = {"Package": name, "Version": version, "Architecture": "amd64", "Filename": f"pool/{name}_{version}.deb"}
    lines |= {"Size": "10", "SHA256": "0" * 64}
    lines |= {key.replace("_", "-"): value for key, value in fields.items()}
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def index(*stanzas: str) -> PackageIndex:
    data = "\n".join(stanzas).encode()
    mentioned: dict[bytes, None] = {}
    packages = parse_packages(data, base="http://archive", what="Packages", mentioned=mentioned)
    return PackageIndex([encode_compact(packages, mentioned)])


def names(packages: list[Package]) -> list[str]:
    return [package.name for package in packages]


def test_closure_takes_depends_and_pre_depends_but_not_recommends() -> None:
    archive = index(
        stanza("a", Depends="b (>= 1), c | d", Recommends="e"),
        stanza("b", Pre_Depends="f"),
        *map(stanza, "cdef"),
    )
    assert names(resolve(archive, ["a"], Exclusions())) == ["a", "b", "c", "f"]


def test_an_alternative_that_is_there_already_is_taken() -> None:
    archive = index(stanza("a", Depends="c | d"), stanza("c"), stanza("d"))
    assert names(resolve(archive, ["a", "d"], Exclusions())) == ["a", "d"]


def test_newest_version_wins_over_several_indexes() -> None:
    old = encode_compact(parse_packages(stanza("a", "1.9").encode(), base="x", what="old"))
    new = encode_compact(parse_packages(stanza("a", "1.10").encode(), base="y", what="new"))
    (package,) = resolve(PackageIndex([old, new]), ["a"], Exclusions())
    assert (package.version, package.url) == ("1.10", "y/pool/a_1.10.deb")


def test_virtual_package_by_priority() -> None:
    archive = index(
        stanza("a", Depends="awk"),
        stanza("gawk", Provides="awk", Priority="optional"),
        stanza("mawk", Provides="awk", Priority="required"),
    )
    assert names(resolve(archive, ["a"], Exclusions())) == ["a", "mawk"]


def test_of_equal_providers_the_one_that_is_mentioned_last_is_taken_as_by_apt() -> None:
    providers = [stanza(name, Provides="v", Priority="optional") for name in ("m", "z", "b")]
    assert names(resolve(index(stanza("a", Depends="v"), *providers), ["a"], Exclusions())) == ["a", "b"]
    first = stanza("0", Suggests="z, b:any, m (>= 2) | b")  # z, m, b
    assert names(resolve(index(first, stanza("a", Depends="v"), *providers), ["a"], Exclusions())) == ["a", "b"]
    first = stanza("0", Suggests="b, z", Depends="m:any, x | m")  # x, m, b, z
    assert names(resolve(index(first, stanza("a", Depends="v"), *providers), ["a"], Exclusions())) == ["a", "z"]
    essential = stanza("e", Provides="v", Priority="optional", Essential="yes")
    assert names(resolve(index(essential, stanza("a", Depends="v"), *providers), ["a"], Exclusions())) == ["a", "e"]


def test_versioned_dependency_needs_a_versioned_provides() -> None:
    archive = index(stanza("a", Depends="v (>= 2)"), stanza("p", Provides="v"), stanza("q", Provides="v (= 2.1)"))
    assert names(resolve(archive, ["a"], Exclusions())) == ["a", "q"]


def test_an_alternative_that_does_not_fit_is_passed_over() -> None:
    wanted = stanza("a", Depends="b | c")
    for archive in (
        index(wanted, stanza("b", Conflicts="a"), stanza("c")),
        index(stanza("a", Depends="b | c", Breaks="b (<< 2)"), stanza("b"), stanza("c")),
        index(wanted, stanza("b", Depends="gone"), stanza("c")),
        index(stanza("a", Depends="v | c"), stanza("b", Provides="v", Conflicts="a"), stanza("c")),
        index(stanza("a", Depends="v"), stanza("b", Provides="v", Conflicts="a"), stanza("c", Provides="v")),
    ):
        assert names(resolve(archive, ["a"], Exclusions())) == ["a", "c"]
    with pytest.raises(Conflict, match="b 1 conflicts with a 1"):
        resolve(index(wanted, stanza("b", Conflicts="a"), stanza("c", Breaks="a")), ["a"], Exclusions())


def test_what_is_taken_in_another_version_does_not_meet_a_dependency() -> None:
    archive = index(stanza("a", Depends="v (= 2)"), stanza("p", "1"), stanza("p", "2", Provides="v (= 2)"))
    with pytest.raises(Conflict, match=r"a 1 → v \(= 2\)"):
        resolve(archive, ["a", Wish("p", "1")], Exclusions())


def test_exclusions_by_package_and_by_edge() -> None:
    archive = index(stanza("a", Depends="b, c, d"), stanza("b", Depends="e"), *map(stanza, "cde"))
    exclusions = Exclusions(packages={"c": "why"}, edges={("b", "e"): "why"})
    assert names(resolve(archive, ["a"], exclusions)) == ["a", "b", "d"]


def test_cycles_end() -> None:
    assert names(resolve(index(stanza("a", Depends="b"), stanza("b", Depends="a")), ["a"], Exclusions())) == ["a", "b"]


def test_the_failing_chain_is_shown() -> None:
    archive = index(stanza("a", Depends="b"), stanza("b", "2", Depends="c (>= 3) | gone"), stanza("c", "2"))
    with pytest.raises(Conflict, match=r"a 1 → b 2 → c \(>= 3\) \(the archive has 2\) \| gone \(not there\)"):
        resolve(archive, ["a"], Exclusions())


@pytest.mark.parametrize("field", ["Conflicts", "Breaks"])
def test_conflicts_are_errors(field: str) -> None:
    archive = index(stanza("a", Depends="b"), stanza("b", **{field: "a (<< 2)"}))
    with pytest.raises(Conflict, match=rf"b 1 {'conflicts with' if field == 'Conflicts' else 'breaks'} a 1"):
        resolve(archive, ["a"], Exclusions())


def test_a_package_of_another_architecture_is_another() -> None:
    archive = index(stanza("a", Depends="b:any, c:amd64"), stanza("b", Conflicts="c:i386, a:x32"), stanza("c"))
    assert names(resolve(archive, ["a"], Exclusions())) == ["a", "b", "c"]
    with pytest.raises(Conflict, match=r"a 1 → c:i386 \(the archive has 1\)"):
        resolve(index(stanza("a", Depends="c:i386"), stanza("c")), ["a"], Exclusions())
    with pytest.raises(Conflict, match="a 1 conflicts with c 1: c:amd64"):
        resolve(index(stanza("a", Conflicts="c:amd64"), stanza("c")), ["a", "c"], Exclusions())


def test_unknown_and_virtual_names() -> None:
    archive = index(stanza("nginx-light"), stanza("exim4", Provides="mail-transport-agent"))
    with pytest.raises(NotFound, match=r"package ngnix-light is not in the archive.*did you mean nginx-light"):
        resolve(archive, ["ngnix-light"], Exclusions())
    with pytest.raises(NotFound, match=r"mail-transport-agent is a virtual package.*exim4"):
        resolve(archive, ["mail-transport-agent"], Exclusions())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Package: a\nVersion: 1\n", "package a has no architecture"),
        (stanza("a").replace("Size: 10", "Size: ten"), "package a has no size"),
        (stanza("a").replace("pool/", "../../"), "file name"),
        (stanza("a").replace("pool/", "/pool/"), "file name"),
    ],
)
def test_damaged_index(text: str, message: str) -> None:
    with pytest.raises(DataCorrupt, match=message):
        index(text)
