"""Maintainer scripts of any text: followed, or lost; never an error, never without end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tare.archive.filetree import FileTree
from tare.distroless.deb import Deb
from tare.distroless.effects import apply_effects

SYNTAX = (
    "if", '[ -z "$2" ]', "; then", "else", "fi\n", 'case "$1" in', "configure)", ";;", "*)", "esac\n", "for i in a b;",
    "do", "done\n", "while read x", "f() {", "}\n", "f", "$(", ")", "`", '"', "'", "&&", "||", "!", "|", "&", ";", "\n",
    "x=", "local", "cat <<E\n", "E\n", "> /etc/y", ">> /etc/x", "2>&1", "< /dev/null", "\0", "\\", "é", "#", "$((1+1))",
)  # fmt: skip
COMMANDS = (
    "mkdir", "chown", "chgrp", "chmod", "ln", "rm", "rmdir", "touch", "cp", "mv", "install", "ucf", "find", "adduser",
    "addgroup", "useradd", "groupadd", "usermod", "gpasswd", "update-alternatives", "dpkg-divert", "dpkg-statoverride",
    "php_invoke", "pam-auth-update", "echo", "cat", "printf", "sed", "set", "shift", "return", "eval", ".", "test", "[",
    "dpkg", "getent", "db_get", "mktemp", "x=$(basename", "exit", "read", "command", "configure-symlinks",
)  # fmt: skip
WORDS = (
    "-p", "-m", "-o", "-g", "-d", "-R", "-s", "-f", "-i", "-aG", "-n", "--", "--system", "--group", "--home", "--uid",
    "--install", "--slave", "--rename", "--divert", "--add", "--update", "--list", "--compare-versions", "--package",
    "enmod", "8.2", "ALL", "a:b", "root", "www-data", "x", "u+x,o=", "0755", "9", "/", "//", "/etc/x", "/etc", "/tmp/1",
    "../..", "etc", "/etc/*", "$i", '"$x"', "${x:-y}", "${x%%*}", '"$@"', "$(echo a b)", "`ls`", "'a b'", "", ")", "10",
    "> /etc/y", ">> /etc/x", "|| true", "&& touch /z", "| sort", ">/dev/null",
)  # fmt: skip
ANYTHING = st.lists(st.sampled_from((*SYNTAX, *COMMANDS, *WORDS)) | st.text(max_size=3), max_size=30).map(" ".join)
LINES = st.tuples(st.sampled_from(COMMANDS), st.lists(st.sampled_from(WORDS), max_size=6)).map(
    lambda line: " ".join((line[0], *line[1]))
)
WHOLE = st.lists(
    LINES
    | LINES.map(lambda line: f"if {line}; then\n{line}\nelse\n:\nfi")
    | LINES.map(lambda line: f"for i in a /b; do {line}; done"),
    max_size=12,
).map("\n".join)


@given(preinst=ANYTHING | WHOLE, postinst=WHOLE)
@settings(max_examples=200, deadline=None)
def test_any_script(preinst: str, postinst: str) -> None:
    control = {"preinst": f"#!/bin/sh\n{preinst}", "postinst": f"#!/bin/sh\n{postinst}"}
    encoded = {name: text.encode("utf-8", "surrogatepass") for name, text in control.items()}
    tree = FileTree()
    tree.add_directory("etc/x")
    package = Deb({"Package": "x", "Version": "1", "Architecture": "all"}, encoded, 0, FileTree())
    for loss in apply_effects(tree, [package], "amd64", 0):
        assert loss.line > 0
        assert str(loss)
    assert tree.read("etc/passwd").startswith(b"root:x:0:0:")
