"""What counts as a secret, and texts and values without any: for logs, error messages and trace files. The secrets that
this process was given are remembered here, so that they are found in whatever form somebody repeats them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from orka.types import Json

MASK: Final = "***"
_SHORTEST: Final = 6
"""Characters of a secret that is looked for by itself: a shorter one is part of ordinary words."""
_MOST: Final = 256
"""Secrets remembered, the latest."""
_STEMS: Final = (
    r"api[_-]?key|api[_-]?secret|api[_-]?token|access[_-]?key|access[_-]?token|auth[_-]?key|auth[_-]?token"
    r"|bearer[_-]?token|refresh[_-]?token|id[_-]?token|client[_-]?secret|secret[_-]?key|private[_-]?key"
    r"|signing[_-]?key|password|passwd|passphrase|pwd|secret|credentials?"
)
_NAME: Final = re.compile(rf"(?:.*[_-])?(?:{_STEMS}|token|authorization)")
_VARIABLE: Final = re.compile(r"(?:.*_)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STAND_IN: Final = re.compile(
    r"(?i)(?:not?[ _-]?(?:needed|used|required|key)|none|null|empty|dummy|fake|unused|ignored|test|local|lm[_-]?studio"
    r"|ollama|vllm|x+|\*+|<.*>|your[ _-].*|change[_-]?me|\$\{?\w+\}?)"
)
"""What files hold where a server wants some key and does not look at it, or where the reader is to put one."""

_Rule = tuple[tuple[str, ...], re.Pattern[str]]
_RULES: Final[tuple[_Rule, ...]] = (
    (("://",), re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,20}://)([^\s/?#\"'<>]{1,512})(?=@)")),
    (
        ("authorization",),
        re.compile(
            r"(?i)(\bauthorization[\"'\\]{0,4}\s{0,3}[:=]\s{0,3}[\"'\\]{0,4}(?:(?:bearer|basic|token|digest|key)\s{1,3})?)"
            r"(?:\*{3}|(?:[^\s\"',;<>\\]|\\(?![\"'])){6,4096})"
        ),
    ),
    (("bearer",), re.compile(r"(?i)(\bbearer\s{1,3})(?=[a-z._~+/-]{0,200}[0-9])[a-z0-9._~+/=-]{8,4096}")),
    (
        ("key", "token", "secret", "pass", "pwd", "credential"),
        re.compile(
            rf"(?i)((?<![a-z0-9])(?:[a-z0-9]{{1,20}}[_-]){{0,4}}(?:{_STEMS})[\"'\\]{{0,4}}\s{{0,3}}[:=]\s{{0,3}}[\"'\\]{{0,4}})"
            r"(?:[^\s\"'&,;<>(){}\[\]\\]|\\(?![\"'])){4,4096}"
        ),
    ),
    (
        ("key=", "token=", "sig=", "signature=", "auth=", "code="),
        re.compile(r"(?i)([?&](?:key|token|sig|signature|auth|code)=)[^&\s\"'<>#]{6,4096}"),
    ),
    (
        ("sk-", "sk_", "pk_", "rk_", "akia", "aiza", "gh", "hf_", "xox", "glpat-", "eyj"),
        re.compile(
            r"(?i)()\b(?:(?:sk-|[spr]k_)(?=[a-z_-]{0,40}[0-9])[a-z0-9_-]{16,256}|akia[0-9a-z]{16}|aiza[\w-]{30,60}"
            r"|gh[pousr]_\w{20,255}|github_pat_\w{20,255}|hf_[a-z0-9]{20,80}|gsk_[a-z0-9]{20,120}"
            r"|xox[abeprs]-[a-z0-9-]{10,255}|glpat-[\w-]{16,80}|eyj[\w-]{8,4096}\.eyj[\w-]{8,8192}\.[\w-]{8,4096})"
        ),
    ),
    (
        ("private key",),
        re.compile(r"()-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{1,16384}-----END [A-Z ]{0,30}PRIVATE KEY-----"),
    ),
)
"""Words (in small letters) without one of which a text need not be searched, and what is found then: the first group
stays, the rest is the secret. Every repeat has a bound, so the time is proportional to the text."""

_known: dict[str, None] = {}


def remember(*secrets: str | None) -> None:
    """Values that must never be told: whoever reads a key from a file or from the environment names it here. What is
    shorter than six characters is not looked for."""
    for secret in secrets:
        if secret and len(secret) >= _SHORTEST and not secret.isspace():
            _known.pop(secret, None)
            _known[secret] = None
    while len(_known) > _MOST:
        del _known[next(iter(_known))]


def remember_login(address: str | None) -> None:
    """The password in an address, or the user's name where that stands alone."""
    remember(_password_of(address))


def remember_variables(environment: Mapping[str, str]) -> None:
    """The values of variables whose names say that they are secrets, and passwords in addresses."""
    for name, value in environment.items():
        if _VARIABLE.fullmatch(name.upper()):
            remember(value.strip())
        elif "://" in value and "@" in value:
            remember_login(value.strip())


def is_secret_name(name: str) -> bool:
    """Whether a key of a mapping names a secret: `api_key`, `clientSecret`, `Authorization`, `X-API-Key`. Counts of tokens
    and names of variables (`max_tokens`, `api_key_env`) do not."""
    return _NAME.fullmatch(_CAMEL.sub("_", name).lower().replace(" ", "_")) is not None


def is_stand_in(value: str) -> bool:
    """Whether what stands in a secret's place is none: `not-needed`, `<your key>`."""
    return len(value.strip()) < _SHORTEST or _STAND_IN.fullmatch(value.strip()) is not None


def redact_text(text: str) -> str:
    """`text` with `***` in place of known secrets, of keys by their shape, and of what stands behind their names. The same
    object where there is none."""
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    lowered = text.lower()
    for words, rule in _RULES:
        if any(word in lowered for word in words):
            text = rule.sub(_masked_login if words == ("://",) else _masked, text)
    return text


def redact(value: Json) -> Json:
    """A JSON value without secrets, in texts, keys and under keys that name them; what holds none is not copied."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        shown = {redact_text(key): _entry(key, item) for key, item in value.items()}
        same = len(shown) == len(value) and all(shown.get(key) is item for key, item in value.items())
        return value if same else shown
    if isinstance(value, list):
        items = [redact(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return value


def redact_fact(name: str, value: object) -> object:
    """Like `redact`, of any value under a name: what is no JSON is shown by its `repr` if that holds a secret, else it is
    given as it is."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, dict, list)):
        return _entry(name, cast(Json, value))
    shown = repr(value)
    clean = redact_text(shown)
    return value if clean == shown else clean


def _entry(key: str, value: Json) -> Json:
    if isinstance(value, str) and value and is_secret_name(key) and not is_stand_in(value):
        return MASK
    return redact(value)


def _masked(match: re.Match[str]) -> str:
    return f"{match[1]}{MASK}"


def _masked_login(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    return f"{match[1]}{user}:{MASK}" if colon else f"{match[1]}{MASK}"


def _password_of(value: str | None) -> str | None:
    """The password in an address, if it is one that has one."""
    if not value or "://" not in value or "@" not in value:
        return None
    try:
        login = urlsplit(value).netloc.rpartition("@")[0]
    except ValueError:
        return None
    user, colon, password = login.partition(":")
    return unquote(password if colon else user) or None
