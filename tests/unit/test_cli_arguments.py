"""Options may stand before the command, and a lone dash means standard input."""

import pytest

from orka.cli.arguments import ANY_FILE, ANY_MODULE, STANDARD_INPUT, arrange

GROUPS = ("runs", "system")


@pytest.mark.parametrize(
    ("argv", "tokens"),
    [
        (["--json-input", "run", "f.yml", "{}"], ("run", "--json-input", "f.yml", "{}")),
        (["--json", "runs", "list"], ("runs", "list", "--json")),
        (["--json", "--json-input", "run", "f", "x"], ("run", "--json", "--json-input", "f", "x")),
        (["run", "f", "x", "--json"], ("run", "f", "x", "--json")),
        (["run", "f", "-"], ("run", "f", STANDARD_INPUT)),
        (["run", "f", "--", "-"], ("run", "f", "--", "-")),
        (["run", "f", "--allow-functions", "x"], ("run", "f", f"--allow-functions={ANY_MODULE}", "x")),
        (["run", "f", "--allow-functions=a,b", "x"], ("run", "f", "--allow-functions=a,b", "x")),
        (["run", "f", "--", "--allow-functions"], ("run", "f", "--", "--allow-functions")),
        (["run", "f", "x", "--trace"], ("run", "f", "x", f"--trace={ANY_FILE}")),
        (["run", "f", "x", "--trace=t.json"], ("run", "f", "x", "--trace=t.json")),
        (["run", "f", "x", "--log-to-file"], ("run", "f", "x", f"--trace={ANY_FILE}")),
        (["--help"], ("--help",)),
        ([], ()),
    ],
)
def test_arguments_are_arranged(argv: list[str], tokens: tuple[str, ...]) -> None:
    assert arrange(argv, GROUPS).tokens == tokens


@pytest.mark.parametrize(
    ("argv", "tokens", "verbose"),
    [
        (["-v", "run", "f", "x"], ("run", "f", "x"), True),
        (["run", "f", "x", "--verbose"], ("run", "f", "x"), True),
        (["run", "f", "x"], ("run", "f", "x"), False),
        (["run", "f", "--", "-v"], ("run", "f", "--", "-v"), False),
    ],
)
def test_verbose_stands_anywhere_before_the_double_dash(
    argv: list[str], tokens: tuple[str, ...], verbose: bool
) -> None:
    arranged = arrange(argv, GROUPS)
    assert (arranged.tokens, arranged.verbose) == (tokens, verbose)
