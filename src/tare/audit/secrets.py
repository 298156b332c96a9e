"""Secrets by their forms: keys, tokens, files of credentials, in every layer and in the image's configuration.

What is found is never repeated: a finding says what kind of secret is where. Every pattern takes time in proportion to
the text, whatever the text is: repetitions that could meet each other are bounded. Forms are taken from what their
issuers document; those without a form of their own count only in files and variables that exist to hold secrets.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tare.audit.content import Examiner, Form
from tare.audit.files import finding
from tare.audit.findings import Finding
from tare.audit.ownership import Ownership
from tare.audit.tree import Inode


@dataclass(frozen=True, slots=True)
class _Form:
    trace: bytes
    name: str
    rule: str
    pattern: re.Pattern[bytes]


def _form(trace: bytes, name: str, pattern: bytes, rule: str = "secret-token") -> _Form:
    return _Form(trace, name, rule, re.compile(pattern))


_FORMS: tuple[_Form, ...] = (
    _form(b"PRIVATE KEY-----", "a private key", (
        rb"-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY(?: BLOCK)?-----(?:\\[rn]|\s){1,8}"
        rb"(?:[A-Za-z-]{1,40}: [^\r\n]{0,200}[\r\n]{1,4}){0,8}\s{0,4}[A-Za-z0-9+/]{40}"
    ), "secret-key"),
    _form(b"PuTTY-User-Key-File-", "a private key", rb"PuTTY-User-Key-File-[23]: ", "secret-key"),
    _form(b"AGE-SECRET-KEY-1", "an age key", rb"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", "secret-key"),
    _form(b"AKIA", "an AWS access key", rb"(?<![A-Z0-9])AKIA[A-Z2-7]{16}(?![A-Z0-9])"),
    _form(b"ASIA", "an AWS session key", rb"(?<![A-Z0-9])ASIA[A-Z2-7]{16}(?![A-Z0-9])"),
    *(_form(trace, "an AWS secret key", (
        rb"(?i)aws_secret_access_key\s{0,4}[=:]\s{0,4}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
    )) for trace in (b"aws_secret", b"AWS_SECRET")),
    *(_form(trace, "a GitHub token", rb"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,251}")
      for trace in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")),
    _form(b"github_pat_", "a GitHub token", rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _form(b"glpat-", "a GitLab token", rb"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}"),
    _form(b"xox", "a Slack token", rb"(?<![A-Za-z0-9])xox[abprs]-[0-9]{8,}-[A-Za-z0-9-]{10,}"),
    _form(b"AIza", "a Google API key", rb"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _form(b'"private_key"', "a Google service account", rb"\"type\"\s*:\s*\"service_account\""),
    _form(b"_live_", "a Stripe key", rb"(?<![A-Za-z0-9])[sr]k_live_[A-Za-z0-9]{24,}"),
    _form(b"npm_", "an npm token", rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _form(b"pypi-", "a token of a Python package index", rb"(?<![A-Za-z0-9])pypi-AgEI[A-Za-z0-9_-]{50,}"),
    _form(b"hvs.", "a Vault token", rb"(?<![A-Za-z0-9])hvs\.[A-Za-z0-9_-]{24,}"),
    _form(b"dckr_pat_", "a Docker token", rb"dckr_pat_[A-Za-z0-9_-]{27,}"),
    _form(b"SG.", "a SendGrid key", rb"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _form(b"AccountKey=", "an Azure storage key", rb"AccountKey=[A-Za-z0-9+/]{86}=="),
    _form(b"eyJ", "a JSON web token", (
        rb"(?<![A-Za-z0-9_-])eyJhbGci[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"
    )),
)  # fmt: skip

_URL = re.compile(rb"([a-z][a-z0-9+.-]{0,20}://[^\s/:@'\"]{0,200}:)[^\s/@'\"]{3,200}(@[^\s/])")
_HIDDEN = b"***"
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)(?:_|$|[0-9])",
    re.IGNORECASE,
)  # fmt: skip
_HARMLESS_NAME = re.compile(r"_(?:FILE|PATH|DIR|URL|URI|NAME|ID|TTL|LENGTH|TYPE|ALGORITHM|HEADER)$", re.IGNORECASE)
_ASSIGNED = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)=(\"[^\"]*\"|'[^']*'|[^\s|;&]+)")
_PLACEHOLDER = re.compile(r"(?:|\$.*|<.*>|x+|\*+|changeme|change_me|none|null|true|false|example|placeholder)", re.I)


def _has_password(data: bytes) -> bool:
    return re.search(rb"(?m)^[^#\n]*\bpassword[ \t]+\S+", data) is not None


def _has_docker_login(data: bytes) -> bool:
    try:
        document = json.loads(data)
        logins = document.get("auths", document)
        return any(isinstance(one, dict) and (one.get("auth") or one.get("identitytoken")) for one in logins.values())
    except (ValueError, AttributeError, RecursionError):
        return False


def _fits(pattern: bytes) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern)
    return lambda data: compiled.search(data) is not None


_FILES: Mapping[str, tuple[str, Callable[[bytes], bool]]] = {
    ".netrc": ("logins of curl and git", _has_password),
    "_netrc": ("logins of curl and git", _has_password),
    ".npmrc": ("a login of npm", _fits(rb"(?m)^[^#;\n]*(?:_authToken|_auth|_password)\s*=\s*[^$\s]")),
    ".yarnrc.yml": ("a login of yarn", _fits(rb"(?m)^[ \t]*npmAuth(?:Token|Ident):\s*[^$\s]")),
    ".pypirc": ("a login of a Python package index", _fits(rb"(?m)^[ \t]*password\s*[=:]\s*\S")),
    "pip.conf": ("a login of a Python package index", lambda data: _URL.search(data) is not None),
    ".git-credentials": ("logins of git", lambda data: _URL.search(data) is not None),
    ".docker/config.json": ("logins to registries", _has_docker_login),
    ".dockercfg": ("logins to registries", _has_docker_login),
    ".pgpass": ("passwords of PostgreSQL", _fits(rb"(?m)^(?:[^:#\n]*:){4}[^*\s]")),
    ".my.cnf": ("a password of MariaDB or MySQL", _fits(rb"(?m)^[ \t]*password\s*=\s*\S")),
    ".aws/credentials": ("credentials of AWS", _fits(rb"(?m)^[ \t]*aws_secret_access_key\s*=\s*\S")),
    ".kube/config": ("a login to Kubernetes", _fits(rb"(?m)^[ \t]*(?:token|client-key-data|password):\s*\S")),
    "application_default_credentials.json": ("a login to Google Cloud", _fits(rb"\"(?:refresh_token|private_key)\"")),
    ".vault-token": ("a Vault token", _fits(rb"\S{20}")),
    "credentials.toml": ("a login of cargo", _fits(rb"(?m)^[ \t]*token\s*=\s*[\"']\S")),
    "settings-security.xml": ("a password of Maven", _fits(rb"<master>")),
    "auth.json": ("a login of Composer", _fits(rb"\"(?:http-basic|github-oauth|bearer)\"\s*:\s*\{\s*\"")),
    ".htpasswd": ("hashes of passwords", _fits(rb"(?m)^[^:\s]+:(?:\$|\{SHA\}|[./A-Za-z0-9]{13}$)")),
}


def check_layers(
    stored: Sequence[Iterable[Inode]], visible: Mapping[int, str], examiner: Examiner, owned: Ownership
) -> Iterator[Finding]:
    """Look through the texts of all layers, also those that a later layer hides. ``visible``: paths by inode."""
    for inodes in stored:
        for inode in inodes:
            yield from _check_file(inode, visible.get(id(inode)), examiner, owned)


def _check_file(inode: Inode, path: str | None, examiner: Examiner, owned: Ownership) -> Iterator[Finding]:
    if not inode.size:
        return
    shown_path = path if path is not None else f"/{inode.path}"
    where = "" if path is not None else ", deleted or replaced in a later layer but still in this one"
    content = examiner.examine(inode)
    if content.form not in (Form.TEXT, Form.SCRIPT):
        return
    data = examiner.text(inode)
    found = list(_secrets_of(data))
    kept = _kept_file(shown_path)
    if kept is not None and kept[1](data):
        found.append(("secret-file", kept[0]))
    if found and owned.published(inode, examiner):
        return  # what a distribution publishes is no secret
    for rule, name in found:
        yield finding(rule, shown_path, f"{name}{where}", layer=inode.layer)


def _kept_file(path: str) -> tuple[str, Callable[[bytes], bool]] | None:
    name = posixpath.basename(path)
    above = posixpath.basename(posixpath.dirname(path))
    return _FILES.get(f"{above}/{name}") or _FILES.get(name)


def _secrets_of(data: bytes) -> Iterator[tuple[str, str]]:
    """Rule and kind of each secret, every kind once."""
    told: set[str] = set()
    for form in _FORMS:
        if form.trace in data and form.name not in told and form.pattern.search(data):
            told.add(form.name)
            yield form.rule, form.name


def check_environment(environment: Iterable[str], place: str) -> Iterator[Finding]:
    """Variables with the name of a secret or a value in the form of one."""
    for line in environment:
        name, _, value = line.partition("=")
        kind = _value_kind(name, value)
        if kind:
            yield finding("secret-environment", f"{place} {name}", kind)


def check_labels(labels: Mapping[str, str]) -> Iterator[Finding]:
    """Labels with a value in the form of a secret."""
    for name, value in labels.items():
        for _, kind in _secrets_of(value.encode("utf-8", "surrogateescape")):
            yield finding("secret-environment", f"LABEL {name}", kind)


def check_history(steps: Sequence[str]) -> Iterator[Finding]:
    """Steps whose text has a secret in it: build arguments, commands with logins."""
    for number, step in enumerate(steps, start=1):
        names: list[str] = []
        for name, value in _ASSIGNED.findall(step):
            if _value_kind(name, value.strip("\"'")):
                names.append(name)
        text = step.encode("utf-8", "surrogateescape")
        kinds = [kind for _, kind in _secrets_of(text)]
        if _URL.search(text):
            kinds.append("an address with a password")
        for name in dict.fromkeys(names):
            yield finding("secret-environment", f"history, step {number}", f"a value of {name}")
        if not names:
            for kind in kinds:
                yield finding("secret-environment", f"history, step {number}", kind)


def redacted(step: str) -> str:
    """The text of a step with every secret in it replaced; what follows a private key is left out."""
    text = step.encode("utf-8", "surrogateescape")
    for form in _FORMS:
        if form.rule == "secret-key" and (match := form.pattern.search(text)):
            text = text[: match.start()] + _HIDDEN
        text = form.pattern.sub(_HIDDEN, text)
    text = _URL.sub(lambda match: match[1] + _HIDDEN + match[2], text)

    def assigned(match: re.Match[str]) -> str:
        secret = _value_kind(match[1], match[2].strip("\"'"))
        return f"{match[1]}={_HIDDEN.decode()}" if secret else match[0]

    return _ASSIGNED.sub(assigned, text.decode("utf-8", "surrogateescape"))


def _value_kind(name: str, value: str) -> str:
    if _PLACEHOLDER.fullmatch(value):
        return ""
    text = value.encode("utf-8", "surrogateescape")
    for _, kind in _secrets_of(text):
        return kind
    if _URL.search(text):
        return "an address with a password"
    if _SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name) and not value.startswith("/"):
        return "by its name a secret"
    return ""
