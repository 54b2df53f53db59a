"""`REDIS_URL` as a value. A password is in no message and in no repr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote

from orka.errors import SettingsError

ACCEPTED: Final = (
    "redis://[user:password@]host[:port][/database], rediss:// for TLS, "
    "redis://host1:port,host2:port,host3:port/0 for a cluster, unix:///path/to/redis.sock[?db=0]; "
    "a password with any of @ / : ? # % in it is percent-encoded"
)
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a Redis is and how to get in."""

    nodes: tuple[tuple[str, int], ...] = ()
    """Host and port; several are the first nodes to ask of one cluster. Empty for a unix socket."""
    path: str | None = None
    """The unix socket."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    tls_options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those of `TLS_OPTIONS` that are given; certificates are verified unless they say otherwise."""

    @property
    def label(self) -> str:
        """For messages: `host:port` of every node, or the path of the socket."""
        return self.path or ",".join(node_name(*node) for node in self.nodes)


def node_name(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_url(url: str) -> Target:
    """Parses every form of `ACCEPTED`. Raises `SettingsError` that quotes nothing that may be secret."""
    scheme, mark, rest = url.strip().partition("://")
    if not mark or scheme.lower() not in {"redis", "rediss", "unix"}:
        _refuse("does not begin with redis://, rediss:// or unix://")
    if "#" in rest:
        _refuse("has a '#' in it, which must be written %23")
    rest, _, query = rest.partition("?")
    login, at, place = rest.rpartition("@")
    username, password = _login(login) if at else (None, None)
    options = _options(query)
    username, password = options.pop("username", username), options.pop("password", password)
    database = options.pop("db", None)
    tls = scheme.lower() == "rediss"
    if options and not tls:
        _refuse(f"has the option {min(options)!r}, which is for rediss://")
    if scheme.lower() == "unix":
        if not place.startswith("/"):
            _refuse("has no absolute path after unix://")
        return Target(path=unquote(place), username=username, password=password, database=_database(database or "0"))
    hosts, _, tail = place.partition("/")
    nodes = tuple(_node(text) for text in hosts.split(","))
    number = _database(database or tail or "0")
    if len(nodes) > 1 and number:
        _refuse("names a cluster and a database other than 0, which a cluster does not have")
    return Target(nodes=nodes, username=username, password=password, database=number, tls=tls, tls_options=options)


def _refuse(what: str) -> NoReturn:
    raise SettingsError(f"REDIS_URL {what}; accepted: {ACCEPTED}", path="REDIS_URL")


def _login(text: str) -> tuple[str | None, str | None]:
    if "/" in text or "@" in text:
        _refuse("has an '@' or '/' before the host, in a password most likely")
    username, _, password = text.partition(":")
    return unquote(username) or None, unquote(password) or None


def _options(query: str) -> dict[str, str]:
    known = ("db", "username", "password", *TLS_OPTIONS)
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            _refuse(f"has an option that is not one of {', '.join(known)}")
        options[name] = value
    return options


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5:
        _refuse("has a database that is not a number")
    return int(text)


def _node(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            _refuse("has an IPv6 address without its ']'")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if not host or host.isspace():
        _refuse("names no host")
    if not port:
        return unquote(host), _DEFAULT_PORT
    if not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
        _refuse("has a port that is not a number from 1 to 65535")
    return unquote(host), int(port)
