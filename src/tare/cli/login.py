"""``login`` and ``logout``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tare.cli.session import Session, describe, pass_session
from tare.client.registry_auth import DEFAULT_KEY, RegistryAuth, host_of, key_of
from tare.errors import InvalidArgument, TareError

if TYPE_CHECKING:
    from tare.client.credentials import CredentialStore
    from tare.client.registries import LoggedIn

_CODE = "login"
_UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{path}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""
_OVERRIDDEN = """
 Warn -> DOCKER_AUTH_CONFIG is set and takes precedence.
         Unset DOCKER_AUTH_CONFIG to restore the CLI auth behaviour.
"""
_EXISTING = """Authenticating with existing credentials... [Username: {user}]

 Info -> To login with a different account, run 'tare logout' followed by 'tare login'

"""


@click.command(short_help="Log in to a registry.")
@click.option("-u", "--username", metavar="NAME", help="User name.")
@click.option("-p", "--password", metavar="PASSWORD", help="Password or token; other users can see it: use the next.")
@click.option("--password-stdin", is_flag=True, help="Read the password or token from standard input.")
@click.argument("server", required=False, default="")
@pass_session
def login(session: Session, username: str | None, password: str | None, password_stdin: bool, server: str) -> None:
    """Log in to the registry SERVER, by default that of names without one.

    The engine tries the credentials; they are kept in config.json or with its credential helper.
    """
    from tare.client.credentials import CredentialStore

    _check(username, password, from_stdin=password_stdin)
    if password:
        _say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if password_stdin:
        password = _password_from_stdin()
    store = CredentialStore()
    if store.is_overridden:
        _say(_OVERRIDDEN)
    key = key_of(server)
    known = _stored(store, key) if not (username or password) else RegistryAuth(server=key)
    answer = None
    if known.username and known.password:
        answer = _try_again(session, known)
    if answer is None:
        known = _asked(username or "", password or "", known.username, key)
        answer = _ask_engine(session, known)
    if answer.identity_token:
        known = RegistryAuth(username=known.username, server=key, identity_token=answer.identity_token)
    _keep(store, known)
    print(answer.status)


def _check(username: str | None, password: str | None, *, from_stdin: bool) -> None:
    if username is not None and not username.strip():
        raise InvalidArgument("username is empty", code=_CODE)
    if password is not None and from_stdin:
        raise InvalidArgument("conflicting options: cannot specify both --password and --password-stdin", code=_CODE)
    if password is not None and not password:
        raise InvalidArgument("password is empty", code=_CODE)
    if from_stdin and not username:
        raise InvalidArgument("the --password-stdin option requires --username to be set", code=_CODE)


def _password_from_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        # Without the cause: its text shows bytes of the password.
        raise InvalidArgument("the password on standard input is not UTF-8", code=_CODE) from None
    return text.removesuffix("\n").removesuffix("\r")


def _stored(store: CredentialStore, key: str) -> RegistryAuth:
    try:
        return store.find(key)
    except TareError as error:
        _say(f"WARNING: {error.message}")
        return RegistryAuth()


def _try_again(session: Session, known: RegistryAuth) -> LoggedIn | None:
    _say(_EXISTING.format(user=known.username))
    try:
        return _ask_engine(session, known)
    except TareError as error:
        if error.code in ("engine-down", "engine-start"):
            raise
        _say(f"Login did not succeed, error: {describe(error)}")
    return None


def _ask_engine(session: Session, auth: RegistryAuth) -> LoggedIn:
    return session.run(lambda client: client.registries.login(auth))


def _asked(username: str, password: str, default: str, key: str) -> RegistryAuth:
    """What the options say, else the user at the terminal."""
    if not (username and password) and not sys.stdin.isatty():
        raise InvalidArgument(
            "cannot perform an interactive login from a non TTY device",
            hint="use --username and --password-stdin",
            code=_CODE,
        )
    if not username:
        username = _read_line(f"Username ({default}): " if default else "Username: ").strip() or default
        if not username:
            raise InvalidArgument("a username is required", code=_CODE)
    if not password:
        password = _read_hidden("Password: ")
        if not password:
            raise InvalidArgument("a password is required", code=_CODE)
    return RegistryAuth(username=username.strip(), password=password, server=key)


def _read_line(prompt: str) -> str:
    sys.stdout.write(prompt)
    sys.stdout.flush()
    return sys.stdin.readline().rstrip("\r\n")


def _read_hidden(prompt: str) -> str:
    """A line that the terminal does not show."""
    import termios

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    hidden = [*before]
    hidden[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSADRAIN, hidden)
    try:
        return _read_line(prompt)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        print(flush=True)


def _keep(store: CredentialStore, auth: RegistryAuth) -> None:
    try:
        in_file = store.store(auth)
    except TareError as error:
        error.message = f"error saving credentials: {error.message}"
        raise
    if in_file:
        _say(_UNENCRYPTED.format(path=store.path))


@click.command(short_help="Log out from a registry.")
@click.argument("server", required=False, default="")
def logout(server: str) -> None:
    """Forget the credentials of the registry SERVER, by default that of names without one."""
    from tare.client.credentials import CredentialStore

    store = CredentialStore()
    if store.is_overridden:
        _say(_OVERRIDDEN)
    key = key_of(server)
    keys = [key]
    if key != DEFAULT_KEY:  # other clients may have kept it with a scheme, or as it was typed
        host = host_of(server)
        keys = list(dict.fromkeys([server, host, f"http://{host}", f"https://{host}"]))
    print(f"Removing login credentials for {key}", flush=True)
    failures = {}
    for name in keys:
        try:
            store.erase(name)
        except TareError as error:
            failures[name] = error.message
    if len(failures) == len(keys):
        _say("WARNING: could not erase credentials:")
        for name, message in failures.items():
            _say(f"{name}: {message}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
