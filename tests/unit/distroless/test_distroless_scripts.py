"""Maintainer scripts, followed: what they change, what does not matter, what is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from deb_parts import control, deb, member

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree
from tare.distroless.changes import (
    AddGroup,
    AddMember,
    AddUser,
    Alternative,
    Diversion,
    MakeDirectory,
    MakeLink,
    Remove,
    SetMode,
    SetOwner,
    WriteFile,
)
from tare.distroless.deb import Deb, read_deb
from tare.distroless.effects import apply_effects, check_losses, divert
from tare.distroless.scripts import Loss, lost_effects, read_scripts
from tare.errors import Unsupported


def package(tmp_path: Path, name: str = "foo", *members: tuple, **scripts: str) -> Deb:
    path = tmp_path / f"{name}.deb"
    path.write_bytes(deb(control(name), *members, extra=scripts))
    spool = tmp_path / f"{name}.spool"
    spool.unlink(missing_ok=True)
    return read_deb(path, spool)


def changes(tmp_path: Path, script: str, *members: tuple, **more: str) -> list[object]:
    found = read_scripts(package(tmp_path, "foo", *members, postinst=f"#!/bin/sh\nset -e\n{script}", **more))
    assert found.losses == []
    return [planned.change for planned in found.changes]


def losses(tmp_path: Path, script: str, **more: str) -> list[str]:
    return [str(loss) for loss in lost_effects(package(tmp_path, postinst=f"#!/bin/sh\nset -e\n{script}", **more))]


DEBHELPER = """
# Automatically added by dh_installsystemd/13.11.4
if [ "$1" = "configure" ] || [ "$1" = "abort-upgrade" ] ; then
	deb-systemd-helper unmask 'foo.service' >/dev/null || true
	if deb-systemd-helper --quiet was-enabled 'foo.service'; then
		deb-systemd-helper enable 'foo.service' >/dev/null || true
	fi
	if [ -d /run/systemd/system ]; then
		systemctl --system daemon-reload >/dev/null || true
	fi
fi
# End automatically added section
# Automatically added by dh_python3:
if command -v py3compile >/dev/null 2>&1; then
	py3compile -p foo -V 3.11
fi
# Automatically added by dh_installdeb/13.11.4
dpkg-maintscript-helper rm_conffile /etc/foo.old 1.0\\~ foo -- "$@"
# Automatically added by dh_installinit/13.11.4
if [ -x "/etc/init.d/foo" ]; then
	update-rc.d foo defaults >/dev/null || exit 1
fi
"""


def test_what_debhelper_adds_does_not_matter(tmp_path: Path) -> None:
    assert changes(tmp_path, DEBHELPER) == []


def test_users_directories_and_their_owners(tmp_path: Path) -> None:
    script = """
USER=foo; HOME_DIR="/var/lib/$USER"
case "$1" in
    configure)
        if ! getent group foodata >/dev/null; then addgroup --system foodata; fi
        if ! getent passwd $USER >/dev/null; then
            adduser --system --group --home "$HOME_DIR" --no-create-home --gecos "Foo daemon" $USER
        fi
        id foo >/dev/null 2>&1 || useradd foo
        adduser --quiet foo foodata
        install -d -o foo -g adm -m 2750 /var/log/foo
        mkdir -p $HOME_DIR/a
        if ! dpkg-statoverride --list /var/lib/foo >/dev/null; then
            chown -R foo:foo "$HOME_DIR"; chmod 0700 $HOME_DIR
        fi
        if [ -n "$2" ]; then rm -rf /var/lib/foo/old; fi
        if dpkg --compare-versions "$2" gt 1.0; then touch /var/lib/foo/upgraded; fi
    ;;
    abort-upgrade|abort-remove) mkdir /never ;;
    *) echo "unknown argument \\`$1'" >&2; exit 1 ;;
esac
exit 0
mkdir /after
"""
    assert changes(tmp_path, script) == [
        AddGroup(name="foodata"),
        AddUser(name="foo", home="/var/lib/foo", comment="Foo daemon"),
        AddMember(user="foo", group="foodata"),
        MakeDirectory(path="/var/log/foo", mode=0o2750, user="foo", group="adm"),
        MakeDirectory(path="/var/lib/foo/a"),
        SetOwner(path="/var/lib/foo", user="foo", group="foo", recursive=True),
        SetMode(path="/var/lib/foo", mode="0700"),
    ]


def test_loops_functions_and_what_commands_print(tmp_path: Path) -> None:
    script = """
link() { local from=$1; shift; for to in "$@"; do ln -sf "$from" /etc/$to; done; }
link /usr/share/foo one two
for pair in x.conf:50-x.conf ; do
    from=$(echo $pair | cut -d: -f1); to=$(echo $pair | cut -d: -f2)
    ln -s /usr/share/$from /etc/$to
done
cat > /etc/foo.conf <<END
name = $DPKG_MAINTSCRIPT_PACKAGE
END
echo "second line" >> /etc/foo.conf
tmp=$(mktemp); echo x > $tmp; rm -f $tmp
"""
    assert changes(tmp_path, script) == [
        MakeLink(path="/etc/one", target="/usr/share/foo", force=True),
        MakeLink(path="/etc/two", target="/usr/share/foo", force=True),
        MakeLink(path="/etc/50-x.conf", target="/usr/share/x.conf"),
        WriteFile(path="/etc/foo.conf", content=b"name = foo\n"),
        WriteFile(path="/etc/foo.conf", content=b"second line\n", append=True),
        WriteFile(path="/tmp/1", content=b"x\n"),
        Remove(path="/tmp/1"),
    ]


def test_what_functions_answer(tmp_path: Path) -> None:
    script = """
is_new() { if [ "$1" = configure ] && [ -z "$2" ]; then return 0; fi; return 1; }
is_old() { if [ -n "$2" ]; then return 0; fi; return 1; }
is_odd() { if grep -q x /etc/y; then return 0; fi; return 1; }
if is_new "$@"; then mkdir /new; else mkdir /old; fi
if is_old "$@"; then mkdir /old; fi
if is_odd; then mkdir /odd; else mkdir /even; fi
"""
    assert changes(tmp_path, script) == [MakeDirectory(path=path) for path in ("/new", "/odd", "/even")]


def test_a_redirection_that_the_grammar_lacks(tmp_path: Path) -> None:
    assert changes(tmp_path, "exec 7<>/dev/null\nmkdir /x\n") == [MakeDirectory(path="/x")]


def test_alternatives_and_diversions(tmp_path: Path) -> None:
    script = """
for i in java keytool; do
    update-alternatives --install /usr/bin/$i $i /usr/lib/jvm/bin/$i 1711 \\
        --slave /usr/share/man/man1/$i.1.gz $i.1.gz /usr/lib/jvm/man/$i.1.gz
done
update-alternatives --remove foo /usr/bin/foo
"""
    found = changes(tmp_path, script, preinst="#!/bin/sh\ndpkg-divert --add --rename --package foo /usr/bin/bar\n")
    assert found[0] == Diversion(path="/usr/bin/bar", target="/usr/bin/bar.distrib")
    assert [(one.name, one.path, one.priority) for one in found[1:] if isinstance(one, Alternative)] == [
        ("java", "/usr/lib/jvm/bin/java", 1711),
        ("keytool", "/usr/lib/jvm/bin/keytool", 1711),
    ]


TEMPLATES = "Template: foo/enable\nType: boolean\nDefault: false\nDescription: x\n"


def test_questions_have_their_default_answers(tmp_path: Path) -> None:
    script = """
. /usr/share/debconf/confmodule
db_get foo/enable
if [ "$RET" = true ]; then make-key /etc/foo.key; fi
db_stop
"""
    assert changes(tmp_path, script, templates=TEMPLATES) == []
    lost = losses(tmp_path, script, templates=TEMPLATES.replace("false", "true"))
    assert lost == ["postinst line 6: make-key /etc/foo.key: what make-key does"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("make-ssl-cert generate-default-snakeoil", "line 3: make-ssl-cert generate-default-snakeoil: what make-ssl-"),
        ("adduser --system $(cat /etc/name)", "line 3: adduser --system $(cat /etc/name): the user …"),
        ("sed -i s/a/b/ /etc/foo.conf", "line 3: sed -i s/a/b/ /etc/foo.conf: what sed does"),
        ("openssl rand 16 > /etc/foo.key", "line 3: openssl rand 16: the content of /etc/foo.key"),
        ('echo "$(hostname)" > /etc/foo.name', 'line 3: echo "$(hostname)": the content of /etc/foo.name'),
        ("chown foo /var/lib/foo/*", "line 3: chown foo '/var/lib/foo/*': the owner of /var/lib/foo/*"),
        ("mkdir -p var/lib/foo", "line 3: mkdir -p var/lib/foo: the directory var/lib/foo"),
        ("find /var/lib/foo -exec chown foo {} +", "what is done to files below /var/lib/foo"),
        ("su foo -c 'initialise'", "line 3: su foo -c initialise: what su does"),
        ('eval "$(cat /etc/script)"', "what eval does"),
        ("$HELPER install", "line 3: install: "),
        ("x=$(ls /etc/foo.d); $x --all", "what a program that the script chooses does"),
        ("while read x; do chown $x /etc/x; done < /etc/list", "line 3: chown $x /etc/x: the owner …"),
        ("case $(uname -m) in x86*) /usr/lib/foo/tune;; esac", "line 3: /usr/lib/foo/tune: what tune does"),
        ("if then", "its syntax is not understood"),
        ("f() { f; }; f", "it is nested too deeply"),
    ],
)
def test_what_is_lost(tmp_path: Path, script: str, expected: str) -> None:
    assert any(expected in loss for loss in losses(tmp_path, script)), losses(tmp_path, script)


def test_scripts_in_other_languages_are_lost_as_a_whole(tmp_path: Path) -> None:
    perl = package(tmp_path, postinst="#!/usr/bin/perl -w\nmkdir '/x';\n")
    assert list(map(str, lost_effects(perl))) == [
        "postinst line 1: #!/usr/bin/perl -w: it is written for perl",
    ]
    binary = package(tmp_path / "..", "bar", preinst="\x7fELF\0\0")
    assert list(map(str, lost_effects(binary))) == ["preinst line 1: : it is a program, which cannot be read"]


def test_a_script_cannot_keep_the_engine_busy(tmp_path: Path) -> None:
    loops = "for a in 1 2 3 4 5 6 7 8 9 0; do\n" * 8 + "mkdir /x\n" + "done\n" * 8
    assert losses(tmp_path, loops)[0].endswith("it takes too many steps")
    assert losses(tmp_path, loops.replace("mkdir /x", "y=$a"))[0].endswith("it takes too many steps")
    doubled = "x=x\nfor a in 1 2 3 4 5 6 7 8 9 0; do for b in 1 2 3 4 5 6; do x=$x$x; done; done\nmkdir /$x\n"
    assert losses(tmp_path, doubled) == ["postinst line 5: mkdir /$x: the directory /…"]
    long = f"x={'y' * 9000}\n"
    assert "words are too long" in losses(tmp_path, f"{long}echo {'$x' * 500}")[0]
    assert "words are too long" in losses(tmp_path, f"{long}echo {'$x ' * 500}")[0]
    assert losses(tmp_path, "true\n" * 250_000)[0].endswith("it is too long")
    assert "nested too deeply" in losses(tmp_path, "if true; then\n" * 200 + "mkdir /x\n" + "fi\n" * 200)[0]


def applied(debs: list[Deb]) -> tuple[FileTree, list[Loss]]:
    tree = FileTree()
    for one in divert(debs):
        tree.merge(one.tree)
    return tree, apply_effects(tree, debs, "amd64", 1000)


def entry(tree: FileTree, path: str):
    node = tree.get(path)
    assert node is not None, path
    return node.entry


def test_the_tree_gets_what_scripts_would_have_made(tmp_path: Path) -> None:
    service = package(
        tmp_path,
        "service",
        member("./etc/service.conf", b"x"),
        member(
            "./usr/lib/tmpfiles.d/service.conf", b"d /run/service 0775 root service -\nL /etc/link - - - - target\n"
        ),
        postinst="#!/bin/sh\nadduser --system --group --home /var/lib/service service\nadduser service ssl\n"
        "chown root:service /etc/service.conf\nchmod u=rw,g=r,o= /etc/service.conf\n"
        "cp /etc/service.conf /etc/copy.conf\nmkdir -p /usr/share/man/x\n",
    )
    certificates = package(tmp_path, "zz-ssl", postinst="#!/bin/sh\naddgroup --system ssl\nchgrp adm /etc/link\n")
    tree, lost = applied([service, certificates])
    assert lost == []
    group = dict(line.split(":")[:3:2] for line in tree.read("etc/group").decode().splitlines())
    number = int(group["service"])
    assert (entry(tree, "etc/service.conf").gid, entry(tree, "etc/service.conf").mode) == (number, 0o640)
    assert tree.read("etc/copy.conf") == b"x"
    assert (entry(tree, "run/service").gid, entry(tree, "run/service").mode) == (number, 0o775)
    assert (entry(tree, "var/lib/service").uid, entry(tree, "etc/link").target) == (number, "target")
    assert "usr/share/man/x" not in tree, "what images leave out, scripts do not bring in"
    assert f"service:x:{number}:{number}::/var/lib/service:/sbin/nologin\n".encode() in tree.read("etc/passwd")
    assert f"ssl:x:{group['ssl']}:service\n".encode() in tree.read("etc/group")
    assert group["adm"] == "4"


def test_numbers_of_users_do_not_depend_on_the_rest_of_the_image(tmp_path: Path) -> None:
    def daemon(name: str) -> Deb:
        return package(tmp_path, name, postinst=f"#!/bin/sh\nadduser --system --group {name}\n")

    def numbers(*names: str) -> dict[str, str]:
        tree, _ = applied([daemon(name) for name in names])
        return dict(line.split(":")[:3:2] for line in tree.read("etc/passwd").decode().splitlines())

    alone = numbers("redis")["redis"]
    assert alone == numbers("alpha", "redis", "zeta")["redis"]
    assert 200 <= int(alone) < 900
    assert (numbers("postgres")["postgres"], numbers("mysql")["mysql"]) == ("999", "999")
    both = numbers("mysql", "postgres")
    assert both["mysql"] != both["postgres"]


def test_the_best_alternative_gets_the_link(tmp_path: Path) -> None:
    def editor(name: str, priority: int) -> Deb:
        script = (
            f"#!/bin/sh\nupdate-alternatives --install /usr/bin/editor editor /bin/{name} {priority}"
            f" --slave /usr/bin/edit edit /bin/{name}-edit --slave /usr/bin/none none /bin/none\n"
        )
        return package(tmp_path, name, member(f"./bin/{name}"), member(f"./bin/{name}-edit"), postinst=script)

    absent = package(
        tmp_path, "absent", postinst="#!/bin/sh\nupdate-alternatives --install /usr/bin/editor editor /bin/gone 99\n"
    )
    tree, lost = applied([editor("ed", 10), editor("nano", 40), editor("vim", 30), absent])
    assert lost == []
    links = {node.entry.path: node.entry.target for node in tree if node.entry.kind is Kind.SYMLINK}
    assert links["usr/bin/editor"] == "/etc/alternatives/editor"
    assert links["etc/alternatives/editor"] == "/bin/nano"
    assert links["etc/alternatives/edit"] == "/bin/nano-edit"
    assert "usr/bin/none" not in links


def test_diverted_files_move(tmp_path: Path) -> None:
    one = package(
        tmp_path, "one", member("./usr/bin/x", b"one"), member("./usr/bin/y", kind=b"1", target="./usr/bin/x")
    )
    two = package(
        tmp_path,
        "two",
        member("./usr/bin/x", b"two"),
        preinst="#!/bin/sh\ndpkg-divert --divert /usr/bin/x.one --rename /usr/bin/x\n",
    )
    tree, _ = applied([one, two])
    assert (tree.read("usr/bin/x"), tree.read("usr/bin/x.one"), tree.read("usr/bin/y")) == (b"two", b"one", b"one")


def test_a_change_that_cannot_be_made_is_a_loss(tmp_path: Path) -> None:
    foo = package(tmp_path, postinst="#!/bin/sh\nchown nobodyknows /etc\ncp /usr/share/none /etc/none\n")
    _, lost = applied([foo])
    assert list(map(str, lost)) == [
        "postinst line 2: chown nobodyknows /etc: no user nobodyknows",
        "postinst line 3: cp /usr/share/none /etc/none: /usr/share/none: no such file in the packages",
    ]


def test_files_that_scripts_prepare_elsewhere(tmp_path: Path) -> None:
    known = """#!/bin/sh
new=$(mktemp); cat /usr/share/foo.conf > "$new"; chmod 0640 $new
if [ ! -e /etc/foo.conf ]; then ucf "$new" /etc/foo.conf; fi
"""
    source = member("./usr/share/foo.conf", b"default")
    tree, lost = applied([package(tmp_path, "foo", source, postinst=known)])
    assert (lost, tree.read("etc/foo.conf"), entry(tree, "etc/foo.conf").mode) == ([], b"default", 0o640)
    assert [node.entry.path for node in tree if node.entry.path.startswith("tmp/")] == []
    assert entry(tree, "tmp").mode == 0o1777
    unknown = known.replace("cat /usr", "sed s/a/$(hostname)/ /usr")
    _, lost = applied([package(tmp_path, "foo", source, postinst=unknown)])
    assert list(map(str, lost)) == ["postinst line 3: ucf /tmp/1 /etc/foo.conf: the content of /etc/foo.conf"]


def test_the_error_names_packages_commands_and_the_fix(tmp_path: Path) -> None:
    foo = package(tmp_path, postinst="#!/bin/sh\nmake-key a\nmake-key b\nmake-key c\nmake-key d\nmake-key e\n")
    bar = package(tmp_path, "bar", postinst="#!/bin/sh\nsu x\n")
    _, lost = applied([foo, bar])
    with pytest.raises(Unsupported) as caught:
        check_losses(lost, frozenset())
    assert caught.value.code == "script-matters"
    assert caught.value.message == (
        "maintainer scripts that matter, and do not run: bar: postinst line 2: su x: what su does. "
        "foo: postinst line 2: make-key a: what make-key does; postinst line 3: make-key b: what make-key does; "
        "postinst line 4: make-key c: what make-key does; and 2 more"
    )
    assert "accept-scripts: [bar, foo]" in caught.value.hint
    check_losses(lost, frozenset({"foo", "bar"}))
    with pytest.raises(Unsupported, match=r"do not run: bar: .*accept-scripts: \[bar\]"):
        check_losses(lost, frozenset({"foo"}))


SCHEMAS = "#!/bin/sh\n/usr/lib/x/glib-2.0/glib-compile-schemas /usr/share/glib-2.0/schemas\n"


def test_some_matter_only_together_with_files_of_others(tmp_path: Path) -> None:
    glib = package(tmp_path, "libglib2.0-0", postinst=SCHEMAS)
    assert [loss.what for loss in lost_effects(glib)] == ["the compiled settings of GSettings"]
    assert applied([glib])[1] == []
    schema = package(tmp_path, "program", member("./usr/share/glib-2.0/schemas/a.gschema.xml", b"<x/>"))
    assert [loss.package for loss in applied([glib, schema])[1]] == ["libglib2.0-0"]


def test_php_modules_are_enabled_for_each_interface(tmp_path: Path) -> None:
    ini = member("./usr/share/php8.2-curl/curl.ini", b"; priority=30\nextension=curl.so\n")
    script = (
        "#!/bin/sh\nucf /usr/share/php8.2-curl/curl.ini /etc/php/8.2/mods-available/curl.ini\n"
        "php_invoke enmod 8.2 ALL curl\n"
    )
    curl = package(tmp_path, "php8.2-curl", ini, postinst=script)
    cli = package(tmp_path, "php8.2-cli", member("./etc/php/8.2/cli/conf.d/", kind=b"5", mode=0o755))
    tree, lost = applied([curl, cli])
    assert lost == []
    assert entry(tree, "etc/php/8.2/cli/conf.d/30-curl.ini").target == "/etc/php/8.2/mods-available/curl.ini"


def test_declared_users(tmp_path: Path) -> None:
    text = (
        b'u service 777 "A service" /var/lib/service /usr/bin/sh\ng extra -\nu other -:extra\nm service extra\n'
        b'r - 500-900\nbroken "\n'
    )
    one = package(tmp_path, "one", member("./usr/lib/sysusers.d/one.conf", text))
    tree, lost = applied([one])
    assert lost == []
    users = {line.split(":")[0]: line.split(":")[2:] for line in tree.read("etc/passwd").decode().splitlines()}
    groups = {line.split(":")[0]: line.split(":")[2:] for line in tree.read("etc/group").decode().splitlines()}
    assert users["service"] == ["777", "777", "A service", "/var/lib/service", "/sbin/nologin"]
    assert groups["extra"][1] == "service"
    assert users["other"][1] == groups["extra"][0]


PAM_TEMPLATE = """# local
# here are the per-package modules (the "Primary" block)
$primary
# here's the fallback if no module succeeds
auth	requisite			pam_deny.so
# and here are more per-package modules (the "Additional" block)
$additional
# end of pam-auth-update config
"""
UNIX = """Name: Unix
Default: yes
Priority: 256
Auth-Type: Primary
Auth:
	[success=end default=ignore]	pam_unix.so nullok try_first_pass
Auth-Initial:
	[success=end default=ignore]	pam_unix.so nullok
Session-Type: Additional
Session:
	required	pam_unix.so
"""
LDAP = """Name: LDAP
Default: yes
Priority: 128
Auth-Type: Primary
Auth-Final:
	[success=end default=ignore]	pam_ldap.so use_first_pass
	optional	pam_note.so
Session-Interactive-Only: yes
Session-Type: Additional
Session:
	optional			pam_ldap.so
"""


def pam_package(tmp_path: Path, *profiles: tuple[str, str]) -> Deb:
    kinds = ("auth", "account", "password", "session", "session-noninteractive")
    templates = [member(f"./usr/share/pam/common-{kind}", PAM_TEMPLATE.encode()) for kind in kinds]
    chosen = [member(f"./usr/share/pam-configs/{name}", text.encode()) for name, text in profiles]
    script = '#!/bin/sh\npam-auth-update --root "$DPKG_ROOT" --package --force\n'
    return package(tmp_path, "libpam-runtime", *templates, *chosen, postinst=script)


def test_pam_is_configured_of_all_profiles(tmp_path: Path) -> None:
    off = ("off", UNIX.replace("Default: yes", "Default: no").replace("pam_unix", "pam_off"))
    tree, lost = applied([pam_package(tmp_path, ("ldap", LDAP), ("unix", UNIX), off)])
    assert lost == []
    assert tree.read("etc/pam.d/common-auth").decode().splitlines()[1:6] == [
        '# here are the per-package modules (the "Primary" block)',
        "auth\t[success=3 default=ignore]\tpam_unix.so nullok",
        "auth\t[success=2 default=ignore]\tpam_ldap.so use_first_pass",
        "auth\toptional\tpam_note.so ",
        "# here's the fallback if no module succeeds",
    ]
    assert "account\t[default=1]\t\t\tpam_permit.so" in tree.read("etc/pam.d/common-account").decode()
    assert "pam_ldap" in tree.read("etc/pam.d/common-session").decode()
    assert "pam_ldap" not in tree.read("etc/pam.d/common-session-noninteractive").decode()


@pytest.mark.parametrize("text", [UNIX.replace("256", "high"), UNIX.replace("required\tpam_unix.so", "required")])
def test_damaged_profiles_of_pam_are_losses(tmp_path: Path, text: str) -> None:
    _, lost = applied([pam_package(tmp_path, ("unix", text))])
    assert [loss.command for loss in lost] == ["pam-auth-update --root '' --package --force"]
    assert "PAM" in lost[0].what


def test_file_types_matter_where_there_are_some(tmp_path: Path) -> None:
    script = "#!/bin/sh\nupdate-mime-database.real /usr/share/mime || true\nupdate-mime-database /usr/share/mime\n"
    types = member("./usr/share/mime/packages/freedesktop.org.xml", b"<x/>")
    _, lost = applied([package(tmp_path, "shared-mime-info", types, postinst=script)])
    assert [loss.what for loss in lost] == ["what update-mime-database.real does", "the database of file types"]
