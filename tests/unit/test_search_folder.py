"""Searching a folder of texts: what is found, what is passed over, and what is never read."""

import os
import re
from pathlib import Path

import anyio
import pytest

from orka.errors import ConfigError, SearchError
from orka.search import folder as folder_module
from orka.search import reading
from orka.search.folder import FolderEngine
from orka.search.passages import Passage, split_text
from orka.testing import HashEmbedder

LLAMAS = "# Llamas\n\nLlamas live in the Andes and carry loads.\n\n## Wool\n\nTheir wool is soft and warm.\n"
BREAD = "Bread is made of flour, water and yeast. It rises before it is baked."


class Counting(HashEmbedder):
    """Counts what is embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def embed(self, texts, /):  # type: ignore[no-untyped-def]
        self.texts += texts
        return await super().embed(texts)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "llamas.md").write_text(LLAMAS)
    (folder / "deep" / "bread_recipe.txt").write_text(BREAD)
    return folder


def engine(folder: Path, embedder: HashEmbedder | None = None) -> FolderEngine:
    return FolderEngine(str(folder), embedder or HashEmbedder(), [folder.parent])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is looked at again at every search."""
    monkeypatch.setattr(folder_module, "_FRESH", 0.0)


async def test_passages_are_found_by_their_words_with_file_and_line(texts: Path) -> None:
    hits = await engine(texts).search("where do llamas live?", limit=5, timeout=5)
    assert (hits[0].title, hits[0].url) == ("llamas.md: Llamas", "llamas.md:3")
    assert hits[0].text == "Llamas live in the Andes and carry loads."
    (hit,) = await engine(texts).search("yeast", limit=5, timeout=5)
    assert (hit.title, hit.url, hit.text) == ("deep/bread_recipe.txt", "deep/bread_recipe.txt:1", BREAD)
    (hit,) = await engine(texts).search("recipe", limit=5, timeout=5)  # only the file's name has that word
    assert hit.url.startswith("deep/")


async def test_what_fits_nothing_finds_nothing_and_the_limit_holds(texts: Path) -> None:
    assert await engine(texts).search("quantum chromodynamics", limit=5, timeout=5) == []
    assert len(await engine(texts).search("llamas wool bread", limit=2, timeout=5)) == 2
    assert await engine(texts).search("llamas", limit=0, timeout=5) == []


async def test_only_files_that_changed_are_read_again(texts: Path, impatient: None) -> None:
    counting = Counting()
    searcher = engine(texts, counting)
    await searcher.search("llamas", limit=1, timeout=5)
    assert len(counting.texts) == 3 + 1
    await searcher.search("llamas", limit=1, timeout=5)
    assert len(counting.texts) == 3 + 2
    (texts / "llamas.md").unlink()
    (texts / "new.txt").write_text("Vicuñas are small.")
    assert await searcher.search("llamas", limit=1, timeout=5) == []
    (hit,) = await searcher.search("vicuñas", limit=1, timeout=5)
    assert hit.url == "new.txt:1"
    assert len(counting.texts) == 3 + 2 + 1 + 2


async def test_searches_at_once_read_the_folder_once(texts: Path) -> None:
    counting = Counting()
    searcher = engine(texts, counting)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(lambda: searcher.search("llamas", limit=1, timeout=5))
    assert len(counting.texts) == 3 + 20


async def test_links_that_lead_out_are_never_read(
    texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("the launch code is 1234")
    (texts / "file.txt").symlink_to(outside / "secret.txt")
    (texts / "folder").symlink_to(outside)
    (texts / "loop").symlink_to(texts)
    (texts / "self.txt").symlink_to(texts / "self.txt")
    (texts / "inside.txt").symlink_to(texts / "deep" / "bread_recipe.txt")
    assert await engine(texts).search("launch code", limit=5, timeout=5) == []
    assert len(await engine(texts).search("yeast", limit=5, timeout=5)) == 2  # a link inside is one more file
    for name in ("file.txt", "folder", "loop"):
        assert f"'{name} is a link that leads elsewhere'" in caplog.messages[0]
    assert "self.txt cannot be read: Symlink loop" in caplog.messages[0]


async def test_files_that_are_no_text_are_passed_over_with_one_warning(
    texts: Path, impatient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 100_000)
    (texts / "picture.png").write_bytes(b"\x89PNG\0llamas")
    (texts / "latin.txt").write_bytes("Lläma".encode("latin-1"))
    (texts / "huge.txt").write_text("llamas " * 20_000)
    (texts / ".hidden").write_text("llamas llamas")
    os.mkfifo(texts / "pipe")
    (texts / "empty.txt").write_text("")
    (texts / "bom.txt").write_bytes(b"\xef\xbb\xbfguanaco")
    searcher = engine(texts)
    found = await searcher.search("llamas guanaco", limit=9, timeout=5)
    await searcher.search("llamas", limit=9, timeout=5)
    assert sorted(hit.url for hit in found) == ["bom.txt:1", "llamas.md:3"]
    assert [hit.text for hit in found if hit.url == "bom.txt:1"] == ["guanaco"]
    (told,) = caplog.messages
    files = "['huge.txt is larger than 0 MiB', 'latin.txt is no text in UTF-8', 'picture.png is no text']"
    assert told.startswith("search.files_skipped")
    assert f"files={files} count=3" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_a_folder_that_cannot_be_read_is_a_search_error(texts: Path) -> None:
    os.chmod(texts, 0)
    try:
        with pytest.raises(SearchError, match="cannot be read"):
            await engine(texts).search("x", limit=1, timeout=5)
    finally:
        os.chmod(texts, 0o700)


async def test_graphs_read_only_the_folders_that_are_permitted(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for path in ("/etc", str(texts / ".." / ".."), str(tmp_path / "link"), "~"):
        with pytest.raises(ConfigError, match="ORKA_SEARCH_FOLDERS"):
            await FolderEngine(path, HashEmbedder(), [tmp_path]).search("x", limit=1, timeout=5)
    for path in (str(texts / "nothing"), str(texts / "llamas.md")):
        with pytest.raises(ConfigError, match=f"there is no folder {re.escape(repr(path))}"):
            await FolderEngine(path, HashEmbedder(), [tmp_path]).search("x", limit=1, timeout=5)


async def test_paths_are_relative_to_the_working_directory(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(texts.parent)
    assert await FolderEngine("texts", HashEmbedder(), [Path()]).search("llamas", limit=1, timeout=5)


async def test_too_many_passages_are_told(
    texts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_module, "MOST_PASSAGES", 2)
    hits = await engine(texts).search("llamas bread wool", limit=9, timeout=5)
    assert [hit.url for hit in hits] == ["deep/bread_recipe.txt:1"]
    assert "files=['llamas.md comes after 2 passages of other files']" in caplog.messages[0]


def test_passages_stand_under_their_headings() -> None:
    text = "before\n\nTitle\n=====\n\none\nstill one\n\n### Part ###\ntwo\n\n\nthree\n\n#hashtag\n"
    assert split_text(text) == [
        Passage(text="before", heading="", line=1),
        Passage(text="one\nstill one", heading="Title", line=6),
        Passage(text="two\n\nthree\n\n#hashtag", heading="Part", line=10),
    ]
    assert split_text("") == split_text(" \n\n ") == []


def test_long_paragraphs_are_cut_between_sentences_else_words_else_anywhere() -> None:
    assert [p.text for p in split_text("One two. Three four! Five.", 14)] == ["One two.", "Three four!", "Five."]
    assert [p.text for p in split_text("aaaa bbbb cccc dddd", 10)] == ["aaaa bbbb", "cccc dddd"]
    assert [p.text for p in split_text("x" * 25, 10)] == ["x" * 10, "x" * 10, "x" * 5]


def test_no_passage_is_longer_than_asked_for_and_no_word_is_lost() -> None:
    text = "\n\n".join(f"Paragraph {n} says: {'word ' * (n * 7 % 90)}end. Another one follows." for n in range(60))
    passages = split_text(text, 200)
    assert max(len(p.text) for p in passages) <= 200
    assert " ".join(p.text for p in passages).split() == text.split()
    lines = text.split("\n")
    assert all(lines[p.line - 1] for p in passages)
