"""`REDIS_URL`: what is accepted, what is refused, and that no password is ever shown."""

import pytest

from orka.errors import SettingsError
from orka.redis.url import Target, parse_url

ACCEPTED = (
    ("redis://localhost", Target(nodes=(("localhost", 6379),))),
    ("redis://localhost:6380/0", Target(nodes=(("localhost", 6380),))),
    (" redis://localhost:6380/ ", Target(nodes=(("localhost", 6380),))),
    ("redis://localhost:6380/3", Target(nodes=(("localhost", 6380),), database=3)),
    ("redis://localhost?db=4", Target(nodes=(("localhost", 6379),), database=4)),
    ("redis://:secret@host:1/0", Target(nodes=(("host", 1),), password="secret")),
    ("redis://me:s%40c%3Ar%2Fet@host/0", Target(nodes=(("host", 6379),), username="me", password="s@c:r/et")),
    ("redis://me@host", Target(nodes=(("host", 6379),), username="me")),
    ("redis://host?username=me&password=p%26q", Target(nodes=(("host", 6379),), username="me", password="p&q")),
    ("REDIS://[::1]:7000/1", Target(nodes=(("::1", 7000),), database=1)),
    ("redis://[::1]", Target(nodes=(("::1", 6379),))),
    ("rediss://host:6390", Target(nodes=(("host", 6390),), tls=True)),
    (
        "rediss://host?ssl_ca_certs=/a/ca.pem&ssl_check_hostname=false",
        Target(
            nodes=(("host", 6379),), tls=True, tls_options={"ssl_ca_certs": "/a/ca.pem", "ssl_check_hostname": "false"}
        ),
    ),
    ("unix:///run/redis.sock", Target(path="/run/redis.sock")),
    ("unix://:secret@/run/a%20b.sock?db=2", Target(path="/run/a b.sock", password="secret", database=2)),
    (
        "redis://node1:6380,node2:6381,node3/0",
        Target(nodes=(("node1", 6380), ("node2", 6381), ("node3", 6379))),
    ),
    ("rediss://:x@a:1,b:2", Target(nodes=(("a", 1), ("b", 2)), password="x", tls=True)),
)

REFUSED = (
    ("localhost:6379", "does not begin with redis://"),
    ("http://localhost", "does not begin with redis://"),
    ("redis://", "names no host"),
    ("redis:///0", "names no host"),
    ("redis://a,,b", "names no host"),
    ("redis://host:secret/0", "port that is not a number"),
    ("redis://host:0", "port that is not a number"),
    ("redis://host:65536", "port that is not a number"),
    ("redis://host:99999999999999999999", "port that is not a number"),
    ("redis://host/secret", "database that is not a number"),
    ("redis://host/-1", "database that is not a number"),
    ("redis://a,b/1", "a cluster and a database other than 0"),
    ("redis://:sec#ret@host", "'#' in it"),
    ("redis://:sec/ret@host", "before the host, in a password"),
    ("redis://:sec@ret@host", "before the host, in a password"),
    ("redis://host?secret=1", "an option that is not one of"),
    ("redis://host?ssl_ca_certs=x", "'ssl_ca_certs', which is for rediss://"),
    ("unix://run/redis.sock", "no absolute path"),
    ("redis://[::1", "IPv6 address without its"),
)


@pytest.mark.parametrize(("url", "target"), ACCEPTED)
def test_url_is_understood(url: str, target: Target) -> None:
    assert parse_url(url) == target


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_bad_url_is_refused_with_what_is_accepted_and_without_its_secrets(url: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_url(url)
    message = str(caught.value)
    assert reason in message
    assert "redis://[user:password@]host[:port][/database]" in message
    assert "sec" not in message.replace("secret@host", "")
    assert caught.value.path == "REDIS_URL"


def test_password_is_not_shown() -> None:
    target = parse_url("redis://me:hunter2@host:1,other:2/0")
    assert "hunter2" not in repr(target)
    assert "hunter2" not in str(target)
    assert target.label == "host:1,other:2"
    assert parse_url("redis://[::1]:5").label == "[::1]:5"
    assert parse_url("unix:///a/b.sock").label == "/a/b.sock"
