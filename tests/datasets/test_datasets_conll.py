"""Files of words and tags in columns: what is read, and each mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoobench import datasets
from zoobench.errors import UserError
from zoobench.interfaces import Splits
from zoobench.tasks.token_classification import tags_of

N = 24


def sentences(n: int = N, start: int = 0) -> list[str]:
    """Blocks of two columns, in IOB2."""
    return [
        f"Ana{i} B-PER\nOr{i % 3} I-PER\nsees O\nOslo{i} B-LOC\n" for i in range(start, start + n)
    ]


def write(path: Path, blocks: list[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(blocks).replace("\n", end).encode())
    return path


def resolved(path: Path, **options: object) -> str:
    extra = "".join(f"&{key}={value}" for key, value in options.items())
    return str(datasets.resolve(f"conll/tags?path={path}{extra}"))


def loaded(path: Path, **options: object) -> Splits:
    return datasets.load(resolved(path, **options))


def refused(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        resolved(path, **options)
    return str(caught.value)


def all_of(splits: Splits) -> dict[tuple[str, ...], list[str]]:
    """Words -> tags of every sentence."""
    return {
        split.read(i): [splits.classes[k] for k in tags_of(split).row(i)]
        for split in (splits.train, splits.valid, splits.test)
        for i in range(len(split))
    }


def test_a_file_becomes_three_splits(tmp_path: Path) -> None:
    splits = loaded(write(tmp_path / "a.conll", sentences()))
    assert splits.classes == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [17, 2, 5]
    assert splits.notes["scheme"] == "iob2"
    found = all_of(splits)
    assert found["Ana3", "Or0", "sees", "Oslo3"] == ["B-PER", "I-PER", "O", "B-LOC"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_are_no_part_of_words(end: str, tmp_path: Path) -> None:
    blocks = ["\ufeff" + sentences()[0], *sentences()[1:]]
    assert all_of(loaded(write(tmp_path / "a.txt", blocks, end))) == all_of(
        loaded(write(tmp_path / "b.txt", sentences()))
    )


def test_a_folder_names_its_splits(tmp_path: Path) -> None:
    for name, start in (("en-ud-train.iob2", 0), ("en-ud-dev.iob2", 30), ("en-ud-test.iob2", 60)):
        write(tmp_path / name, sentences(10, start))
    write(tmp_path / "notes.txt", ["what"])
    (tmp_path / "README.md").write_text("it is read by nobody")
    splits = loaded(tmp_path)
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [10, 10, 10]
    assert splits.notes["unused"] == {"file that names no split": 1}
    write(tmp_path / "train.txt", sentences())
    assert "'en-ud-train.iob2' and 'train.txt' are both train" in refused(tmp_path)
    (tmp_path / "train.txt").unlink()
    (tmp_path / "en-ud-train.iob2").unlink()
    assert "no file called train" in refused(tmp_path)


def test_documents_are_units(tmp_path: Path) -> None:
    blocks = [part for d in range(8) for part in ("-DOCSTART- O\n", *sentences(4, 4 * d))]
    splits = loaded(write(tmp_path / "a.conll", blocks))
    units = [set(s.groups) for s in (splits.train, splits.valid, splits.test)]
    assert len(set.union(*units)) == 8 == sum(map(len, units))
    assert "-DOCSTART-" not in {word for words in all_of(splits) for word in words}


def test_documents_stay_on_their_side_wherever_their_file_lies(tmp_path: Path) -> None:
    one = [["-DOCSTART- O\n", *sentences(4, 4 * d)] for d in range(8)]
    first = loaded(write(tmp_path / "a.conll", [part for of in one for part in of]))
    other = loaded(write(tmp_path / "x" / "b.conll", [part for of in one[::-1] for part in of]))
    assert other.fingerprints == first.fingerprints
    for mine, theirs in ((first.test, other.test), (first.valid, other.valid)):
        assert mine.units.tolist() == theirs.units.tolist()


def test_other_columns_can_be_asked_for(tmp_path: Path) -> None:
    rows = [
        f"# sent_id = {i}\n# text = Ana{i} sees\n1\tAna{i}\tPROPN\tB-PER\n2-3\tdon't\t_\t_\n"
        f"2\tdo\tAUX\tO\n3\tn't\tPART\tO\n3.1\tgone\t_\t_\n"
        for i in range(N)
    ]
    path = write(tmp_path / "a.conllu", rows)
    found = all_of(loaded(path, word=2, column=3))
    assert found["Ana3", "do", "n't"] == ["PROPN", "AUX", "PART"]
    assert loaded(path, word=2, column=3).notes["scheme"] == "plain"
    assert all_of(loaded(path, word=2))["Ana3", "do", "n't"] == ["B-PER", "O", "O"]
    assert "column 9" in refused(path, word=2, column=9)
    assert "the same column" in refused(path, word=2, column=2)
    assert "not 0" in refused(path, column=0)


def test_a_hash_is_a_word_where_it_stands_in_columns(tmp_path: Path) -> None:
    blocks = [f"# O\ntag{i} B-X\n# O\n" for i in range(N)]
    assert ("#", "tag3", "#") in all_of(loaded(write(tmp_path / "a.txt", blocks)))
    comments = [f"# a comment of {i}\n# id = {i}\ntag{i} B-X\nends O\n" for i in range(N)]
    assert ("tag3", "ends") in all_of(loaded(write(tmp_path / "b.txt", comments)))


@pytest.mark.parametrize(
    ("scheme", "block"),
    [
        ("iob1", "Ana{i} I-PER\nOr I-PER\nBo B-PER\nsees O\nOslo I-LOC\n"),
        ("bilou", "Ana{i} B-PER\nOr L-PER\nBo U-PER\nsees O\nOslo U-LOC\n"),
        ("bioes", "Ana{i} B-PER\nOr E-PER\nBo S-PER\nsees O\nOslo S-LOC\n"),
    ],
)
def test_every_way_of_writing_is_converted(scheme: str, block: str, tmp_path: Path) -> None:
    splits = loaded(write(tmp_path / "a.iob", [block.format(i=i) for i in range(N)]))
    assert splits.notes["scheme"] == scheme
    assert "repaired" not in splits.notes
    assert all_of(splits)["Ana1", "Or", "Bo", "sees", "Oslo"] == [
        "B-PER", "I-PER", "B-PER", "O", "B-LOC",
    ]  # fmt: skip


def test_what_goes_on_without_having_begun_begins_there_and_is_counted(tmp_path: Path) -> None:
    blocks = [*sentences(), "Cy I-PER\ngoes O\n"]
    splits = loaded(write(tmp_path / "a.conll", blocks))
    assert all_of(splits)["Cy", "goes"] == ["B-PER", "O"]
    assert splits.notes["repaired"] == 1
    assert splits.notes["repaired_tags"] == [f"{tmp_path / 'a.conll'}, line {5 * N + 1}"]


def test_damaged_sentences_are_named_and_left_out_up_to_a_tenth(tmp_path: Path) -> None:
    wrong = ["Cy\ngoes O\n", "Di PER\n"]
    splits = loaded(write(tmp_path / "a.conll", [*sentences(), *wrong]))
    assert splits.notes["corrupt"] == 2
    first, second = splits.notes["corrupt_files"]
    assert f"line {5 * N + 1}: 1 columns, where most lines have 2" in first
    assert "the tag 'PER' is none of IOB2" in second
    assert "is the bound" in refused(write(tmp_path / "b.conll", [*sentences(9), *wrong]))
    assert loaded(tmp_path / "b.conll", allow_unused="true").notes["corrupt"] == 2


def test_mistakes_are_said_in_a_word(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.txt")
    assert "a single sentence" in refused(write(tmp_path / "a.txt", ["a O\nb B-X"]))
    assert "holds no words" in refused(write(tmp_path / "b.txt", ["\n \n"]))
    assert "most of its lines have 1 column;" in refused(write(tmp_path / "c.txt", ["a\n", "b\n"]))
    (tmp_path / "d.txt").write_bytes(b"a O\n\n\xff O\n")
    assert "line 3 is not utf-8" in refused(tmp_path / "d.txt")
    path = write(tmp_path / "e.txt", sentences())
    assert "Did you mean 'iob2'" in refused(path, scheme="iob22")
    assert "IOB's, such as 'I-PER', and not plain" in refused(path, scheme="plain")
    single = write(tmp_path / "h.txt", [f"a{i} U-X\nb O\n" for i in range(N)])
    assert "the tag 'U-X' is none of IOB2" in refused(single, scheme="iob2")
    assert "Did you mean 'column'" in refused(path, colum=2)
    numbers = write(tmp_path / "f.txt", [f"a{i} 0\nb 1\n" for i in range(N)])
    assert "the tags are numbers, such as '0'" in refused(numbers)
    same = write(tmp_path / "g.txt", [f"a{i} O\nb O\n" for i in range(N)])
    assert "train holds only the tag 'O'" in refused(same)


def test_a_changed_file_is_another_dataset(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", sentences())
    before = resolved(path)
    write(path, sentences(N, 1))
    assert resolved(path) != before
    with pytest.raises(Exception, match="not what"):
        datasets.load(before)


def test_the_same_sentence_stands_once(tmp_path: Path) -> None:
    blocks = [*sentences(), *sentences(4)]
    splits = loaded(write(tmp_path / "a.txt", blocks))
    assert sum(len(s) for s in (splits.train, splits.valid, splits.test)) == N
    assert splits.notes["duplicates"] == 4
