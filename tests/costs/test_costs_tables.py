"""The packed tables of counts, as `list models` shows them."""

from __future__ import annotations

from zoobench import models
from zoobench.costs.known import OTHER_HEADS, SOURCES, _table, counted, path_of
from zoobench.costs.profile import profile
from zoobench.schema import ModelCard


def card(name: str, **extra: object) -> ModelCard:
    return ModelCard("timm", name, "image", extra=tuple(extra.items()))  # type: ignore[arg-type]


def test_every_packaged_model_has_a_row_that_is_what_is_counted_now() -> None:
    rows = {one.name: counted(one) for one in models.list_cards("packaged/*")}
    assert None not in rows.values()
    body = profile("packaged/efficientnet-lite0")
    row = rows["efficientnet-lite0"]
    assert row is not None
    assert (row.params, row.macs) == (body["params"], body["macs"])


def test_weights_share_the_row_of_their_architecture_only_at_its_size_and_head() -> None:
    name = "repghostnet_130"
    own = counted(card(f"{name}.in12k_ft_in1k", architecture=name, default=True, input_size=224))
    assert own is not None
    assert own.input == "1x3x224x224"
    assert counted(card(f"{name}.fb_in1k", architecture=name, input_size=224)) == own
    assert counted(card(f"{name}.fb_in22k", architecture=name, input_size=224)) is None
    assert counted(card(f"{name}.fb_in22k_ft_in1k_384", architecture=name, input_size=384)) is None
    assert counted(card("nonesuch", architecture="nonesuch")) is None
    assert counted(ModelCard("hf", name, "image")) is None


def test_every_table_is_there() -> None:
    assert all(path_of(source).exists() for source in SOURCES)


def test_heads_of_other_classes_are_not_shared() -> None:
    """The literal is what timm's default weights say now."""
    import timm

    other = {
        name
        for name in _table("timm")
        if (config := timm.get_pretrained_cfg(name)) is not None and config.num_classes != 1000
    }
    tagged = {name.partition(".")[0] for name in timm.list_pretrained() if name.endswith("in1k")}
    assert other & tagged <= OTHER_HEADS
