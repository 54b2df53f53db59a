"""Settings from the environment: every number has bounds, and a value outside of them is named."""

import pytest

from orka.errors import SettingsError
from orka.settings import Settings


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("ORKA_SERVER_LINGER", "0", "2,592,000"),
        ("ORKA_SERVER_PATIENCE", "0.1", "86,400"),
        ("ORKA_REDIS_TIMEOUT", "0.1", "86,400"),
        ("ORKA_LEASE", "0.2", "86,400"),
        ("ORKA_RETENTION_DAYS", "0", "36,500"),
        ("ORKA_JOURNAL_PATIENCE", "0", "86,400"),
        ("ORKA_VALUE_LIMIT", "256", "536,870,912"),
        ("ORKA_VALUE_HARD_LIMIT", "1,024", "536,870,912"),
        ("ORKA_PARTITIONS", "1", "1,024"),
    ],
)
def test_a_number_outside_its_bounds_is_refused(name: str, least: str, most: str) -> None:
    Settings.from_environment({name: most.replace(",", "")})
    for value in ("inf", "-inf", "nan", "1e300", "-1", str(int(most.replace(",", "")) + 1)):
        with pytest.raises(SettingsError) as caught:
            Settings.from_environment({name: value})
        assert str(caught.value) == f"{name}={value!r} must be from {least} to {most}"


def test_the_longest_retention_is_in_seconds() -> None:
    assert Settings.from_environment({"ORKA_RETENTION_DAYS": "36500"}).retention == 36_500 * 86_400
