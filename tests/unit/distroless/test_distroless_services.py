from __future__ import annotations

from dataclasses import replace

import pytest

from tare.archive.filetree import FileTree
from tare.build.assembly.document import read_document
from tare.distroless.orders import order_of_assembly
from tare.distroless.recipes import RECIPES, Recipe, Variant, exclusions, execution, wanted
from tare.distroless.services import NGINX, POSTGRESQL, Edit, Service, apply_service
from tare.errors import Conflict, DataCorrupt
from tare.model import Platform
from tare.model.assembly import Assembly, PackageWish

SERVICE = Service(
    user="web",
    uid=33,
    home="/srv",
    starts_as_root=True,
    directories={"var/lib/web": 0o750},
    files={"etc/web/own.conf": "own\n"},
    links={"var/run": "/run"},
    edits=(
        Edit(path="etc/web.conf", old="port 80\n", new="port 8080\n", variant="nonroot"),
        Edit(path="etc/web.sample", old="local", new="all", variant="debug"),
    ),
    ports=("80/tcp",),
    nonroot_ports=("8080/tcp",),
)


def tree_of(configuration: str = "user web\nport 80\n") -> FileTree:
    tree = FileTree()
    tree.add_file("etc/passwd", b"root:x:0:0::/root:/sbin/nologin\n")
    tree.add_file("etc/group", b"root:x:0:\n")
    tree.add_file("etc/web.conf", configuration.encode(), mode=0o600)
    tree.add_file("etc/web.sample", b"listen local\n")
    tree.add_directory("var/run")
    return tree


def owner_of(tree: FileTree, path: str) -> tuple[int, int, int]:
    node = tree.get(path)
    assert node is not None
    return node.entry.uid, node.entry.gid, node.entry.mode


def test_a_service_has_its_user_directories_files_and_links() -> None:
    tree = tree_of()
    apply_service(tree, SERVICE, nonroot=False, debug=False)
    assert tree.read("etc/passwd").endswith(b"\nweb:x:33:33:web:/srv:/sbin/nologin\n")
    assert tree.read("etc/group") == b"root:x:0:\nweb:x:33:\n"
    assert owner_of(tree, "var/lib/web") == (33, 33, 0o750)
    assert tree.read("etc/web/own.conf") == b"own\n"
    assert tree.resolve("var/run/x") == "run/x"
    assert tree.read("etc/web.conf") == b"user web\nport 80\n"
    assert tree.read("etc/web.sample") == b"listen local\n"


def test_a_user_that_the_package_makes_is_not_made_twice() -> None:
    tree = tree_of()
    apply_service(tree, SERVICE, nonroot=False, debug=False)
    apply_service(tree, SERVICE, nonroot=False, debug=False)
    assert tree.read("etc/passwd").count(b"\nweb:") == 1
    assert tree.read("etc/group").count(b"\nweb:") == 1


def test_variants_own_their_directories_and_change_the_configuration() -> None:
    tree = tree_of()
    apply_service(tree, SERVICE, nonroot=True, debug=True)
    assert owner_of(tree, "var/lib/web") == (65532, 65532, 0o750)
    assert tree.read("etc/web.conf") == b"user web\nport 8080\n"
    assert owner_of(tree, "etc/web.conf") == (0, 0, 0o600)
    assert tree.read("etc/web.sample") == b"listen all\n"


@pytest.mark.parametrize("configuration", ["user web\n", "port 80\nport 80\n"])
def test_a_configuration_that_has_changed_is_no_image(configuration: str) -> None:
    with pytest.raises(DataCorrupt, match=r"/etc/web.conf: expected 'port 80' once, found it [02] times") as caught:
        apply_service(tree_of(configuration), SERVICE, nonroot=True, debug=False)
    assert caught.value.code == "recipe-outdated"


def test_a_directory_with_content_does_not_make_way_for_a_link() -> None:
    tree = tree_of()
    tree.add_file("var/run/pid", b"1\n")
    with pytest.raises(Conflict, match="var/run"):
        apply_service(tree, SERVICE, nonroot=False, debug=False)


def variant_of(name: str, *, nonroot: bool = False, debug: bool = False) -> Recipe:
    return replace(RECIPES[name], variant=Variant(nonroot=nonroot, debug=debug))


def test_who_and_where_services_are() -> None:
    plain = execution(variant_of("nginx"), [])
    assert (plain.user, plain.exposed_ports, plain.stop_signal) == ("0", {"80/tcp": {}}, "SIGQUIT")
    assert (plain.entrypoint, plain.cmd) == (["/usr/sbin/nginx"], ["-g", "daemon off;"])
    nonroot = execution(variant_of("nginx", nonroot=True), [])
    assert (nonroot.user, nonroot.exposed_ports, nonroot.working_dir) == ("65532", {"8080/tcp": {}}, "/home/nonroot")
    database = execution(variant_of("postgresql"), [])
    assert (database.user, database.volumes) == ("999", {"/var/lib/postgresql/data": {}})
    assert "PGDATA=/var/lib/postgresql/data" in (database.env or [])
    assert execution(variant_of("postgresql", nonroot=True), []).user == "65532"
    assert execution(variant_of("base"), []).exposed_ports is None


def test_only_debug_images_have_tools() -> None:
    plain, debug = variant_of("postgresql"), variant_of("postgresql", debug=True)
    program = "usr/lib/postgresql/15/bin/initdb"
    assert plain.leaves_out(program, "postgresql-15") and not debug.leaves_out(program, "postgresql-15")
    assert not plain.leaves_out("usr/lib/postgresql/15/bin/postgres", "postgresql-15")
    assert "postgresql-client-15" in exclusions(plain).packages
    assert "postgresql-client-15" in {wish.name for wish in wanted(debug)}
    assert "postgresql-client-15" not in exclusions(debug).packages
    assert (execution(debug, []).env or [])[0].endswith(":/usr/lib/postgresql/15/bin:/busybox")
    assert "mariadb-client" in variant_of("mariadb", debug=True).only_slices
    assert "mariadb-client" not in variant_of("mariadb").only_slices
    nodejs = variant_of("nodejs", debug=True)
    assert nodejs.leaves_out("usr/share/nodejs/@types/node/fs.d.ts", "nodejs") and not nodejs.has_tools


def test_packages_that_are_asked_for_keep_their_programs() -> None:
    client, dump = PackageWish(name="postgresql-client-15"), "usr/lib/postgresql/15/bin/pg_dump"
    order = order_of_assembly(Assembly(base="postgresql", packages=(client,)), Platform("linux", "amd64"))
    assert order.recipe is not None and client.name not in exclusions(order.recipe).packages
    assert not order.recipe.leaves_out(dump, client.name)
    assert order.recipe.leaves_out("usr/lib/postgresql/15/bin/initdb", "postgresql-15")


@pytest.mark.parametrize(
    ("text", "user", "ports"),
    [
        ("base: nginx\n", "65532", {"8080/tcp": {}}),
        ("base: nginx\nuser: nonroot:nonroot\n", "65532", {"8080/tcp": {}}),
        ("base: nginx\nuser: root\n", "0", {"80/tcp": {}}),
        ("base: postgresql\nuser: postgres\n", "999", {"5432/tcp": {}}),
        ("base: static\n", "0", None),
    ],
)
def test_declared_images_have_services_for_their_user(text: str, user: str, ports: dict[str, object] | None) -> None:
    assembly = read_document(text, "distroless.yaml").document.assembly(None, None)
    order = order_of_assembly(assembly, Platform("linux", "amd64"))
    assert order.recipe is not None
    config = execution(order.recipe, [])
    assert (config.user, config.exposed_ports) == (user, ports)


def test_what_is_left_out_has_a_reason() -> None:
    for recipe in RECIPES.values():
        assert recipe.content
        assert all([*recipe.without.values(), *recipe.left_out.values()])
    assert {edit.variant for edit in NGINX.edits} == {"nonroot"}
    assert {edit.variant for edit in POSTGRESQL.edits} == {"debug"}
