"""Words: the same on both backends, whatever the text."""

from hypothesis import given
from hypothesis import strategies as st

from orka.memory.text import LONGEST, MOST_WORDS, hidden_words, query_words, words_of


def test_words_are_split_at_everything_that_is_no_letter_or_digit():
    assert words_of("The server-crashed, at_midnight!\n(again)") == [
        "the",
        "server",
        "crashed",
        "at",
        "midnight",
        "again",
    ]
    assert words_of("“Zitat” — naïve ÉTÉ Straße") == ["zitat", "naïve", "été", "strasse"]
    assert words_of('-:{}@*|"\\') == []


def test_scripts_without_spaces_give_pairs():
    assert words_of("東京タワー v2") == ["東京", "京タ", "タワ", "ワー", "v2"]
    assert words_of("漢") == ["漢"]
    assert words_of("abc漢字def") == ["abc", "漢字", "def"]


def test_a_query_leaves_stop_words_out_unless_there_is_nothing_else():
    assert query_words("What is the price of the ticket?") == ("price", "ticket")
    assert query_words("to be or not to be") == ("not",)
    assert query_words("the") == ("the",)
    assert len(query_words(" ".join(f"w{i}" for i in range(100)))) == MOST_WORDS


def test_plain_ascii_hides_no_words():
    assert hidden_words("Plain text, with (punctuation): a-b 3.14 'x'") == []


def test_what_the_server_would_miss_is_told():
    assert hidden_words("first line\nsecond") == ["line", "second"]
    assert hidden_words("snake_case") == ["snake", "case"]
    assert hidden_words("“quoted”") == ["quoted"]
    assert hidden_words("x" * 100) == ["x" * LONGEST]
    assert hidden_words("back\\slash") == ["back", "slash"]


def test_long_words_count_as_far_as_the_server_finds_them():
    for letter, longest in (("x", 64), ("é", 64), ("ท", 42), ("𐐨", 32)):
        assert words_of(letter * 200) == [letter * longest]
        assert hidden_words(letter * longest) == []
        assert hidden_words(letter * (longest + 1)) == [letter * longest]


def test_words_that_nothing_folds_are_no_secret_in_any_script():
    assert hidden_words("привет, naïve café ελληνικά 漢") == []
    assert hidden_words("Привет Naïve ΣΊΣΥΦΟΣ straße Ꭰ") == ["привет", "naïve", "σίσυφοσ", "strasse", "Ꭰ"]


@given(st.text())
def test_any_text_has_words_that_can_be_stored(text: str):
    for word in [*words_of(text), *hidden_words(text)]:
        assert word
        assert len(word) <= LONGEST
        assert " " not in word


def test_a_backslash_joins_what_a_separator_would_part() -> None:
    assert hidden_words("\\ w'*'") == ["w"]
    assert hidden_words("one\\ two three") == ["one", "two"]
    assert hidden_words("one \\\\ two") == []
    assert hidden_words("a\\") == ["a"]
