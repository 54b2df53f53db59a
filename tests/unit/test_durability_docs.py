"""docs/durability.md: every promise names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "durability.md").read_text(encoding="utf-8")


def test_every_promise_is_shown_by_tests_that_exist() -> None:
    written = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    rows = [line for line in PAGE.splitlines() if re.match(r"\| P\d \|", line)]
    assert [row[2:4] for row in rows] == ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"]
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named
        assert set(named) <= written


def test_settings_of_the_page_have_the_defaults_it_gives() -> None:
    settings = (ROOT / "orka" / "settings.py").read_text(encoding="utf-8")
    for name, value in (("ORKA_LEASE", "10"), ("ORKA_JOURNAL_PATIENCE", "30"), ("ORKA_RETENTION_DAYS", "7")):
        assert re.search(rf"`{name}`[^(]*\({value}\)", PAGE)
        assert f'_number(env, "{name}", {value}.0' in settings
