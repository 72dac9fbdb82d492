"""Questions made of docstrings: what is asked, and that answers are exact parts of the text."""

from __future__ import annotations

from pathlib import Path

from zoobench import datasets
from zoobench.datasets import packaged_docstrings
from zoobench.tasks.question_answering import answers_of

SOURCE = '''
raise SystemExit("a file is parsed, and never run")

def smooth(x, alpha=0.5, norm="l1", how=None, deep=True):
    """Smooth a signal by a running mean of its neighbours.

    It is what a moving window of a known width makes of each of the values,
    which makes slow changes visible, and fast ones not.

    Parameters
    ----------
    x : array-like of shape (n,)
        The signal.
    alpha : float, default=0.5
        The share of the old.
    norm : {'l1', 'l2'}, optional (default 'l1')
        The norm.
    how :  str or None
        Optional; the default is none.

    Returns
    -------
    y : ndarray
        The smoothed signal.
    """

class Small:
    def none(self):
        """Too short.

        Parameters
        ----------
        x : int
        """
'''


def test_a_docstring_is_read_to_the_end_of_its_parameters_and_asked_of(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    (text,) = packaged_docstrings._of_file(path)
    assert text.startswith("Smooth a signal")
    assert text.endswith("the default is none.")
    asked = list(packaged_docstrings._asked(text))
    assert [row[:3] for row in asked] == [
        ("none", "x", ""),
        ("type", "x", "array-like of shape (n,)"),
        ("default", "alpha", "0.5"),
        ("type", "alpha", "float"),
        ("values", "norm", "'l1', 'l2'"),
        ("type", "how", "str or None"),
    ]
    assert all(text[start : start + len(answer)] == answer for _, _, answer, start in asked)


def test_the_installed_docstrings_make_a_set_of_every_kind_in_whole_modules() -> None:
    ref = datasets.resolve("packaged/docstring-qa")
    assert ref.revision == datasets.resolve("packaged/docstring-qa").revision
    splits = datasets.load(ref)
    assert not {"corrupt", "answers_moved", "answers_not_in_text"} & splits.notes.keys()
    groups = [set(s.groups) for s in (splits.train, splits.valid, splits.test)]
    assert not groups[0] & groups[2]
    assert {group.partition(".")[0] for group in groups[0]} == {"numpy", "scipy", "sklearn"}
    assert len(set(splits.test.targets.strata.tolist())) == 4
    for split in (splits.train, splits.valid, splits.test):
        for i, gold in enumerate(answers_of(split).golds):
            asked = split.read(i)
            name = asked.question.split("`")[1]
            assert f"\n{name} : " in asked.context
            assert all(asked.context[one.start : one.end] == one.text for one in gold)
