"""Features once: a cache on disk, and the FeatureSource that frozen methods read.

One packed file a (model, split, view) under $ZOOBENCH_CACHE/features, named by a
key of all that can change the values; its sha256 is checked when it is read.
"""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoobench import machine, worktime
from zoobench.errors import NotFinite, Unsupported, one_line
from zoobench.features import fingerprint, precision
from zoobench.features.batchnorm import folded
from zoobench.features.cache import CACHE_VERSION, FeatureCache, sealed, unsealed
from zoobench.features.compiled import Compiled, Compiling
from zoobench.features.extraction import MEMORY_LIMIT_BYTES, Job, extract, lay_out, timed_on
from zoobench.features.parts import PartFeatures
from zoobench.features.pixels import PixelCache
from zoobench.features.stages import NOTHING, StageSeconds
from zoobench.files import write_atomic
from zoobench.interfaces import Backbone, InputSpec, Raw, Split
from zoobench.models import variants
from zoobench.models.complete import answers_itself
from zoobench.models.weights import state_digest
from zoobench.schema import digest

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Team
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) examples."""


@dataclass(frozen=True)
class View:
    """How features are computed, beside by what: part of the cache's key.

    `precision` is "fp32", "bf16" or "auto", which `Features.settle` resolves: features in bf16 are
    those of the model's bf16 variant, and training in bf16 is under autocast;
    `device` a torch device string; `batch_size` 0 lets the extraction's rule decide. With
    `compile` features go through torch.compile, and so does training.
    """

    name: str
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 0
    compile: bool = False


class Features(PartFeatures):
    """A FeatureSource: `backbone` on its device, its features kept on disk and in memory.

    `seconds` is the extraction time of each split by fingerprint: measured, or as
    the cache's manifest says it was, if that was on this device with as many threads,
    `stages` what it was spent on;
    `computed` lists the keys that were computed here and not found in the cache.
    """

    def __init__(
        self,
        backbone: Backbone,
        view: View,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
        pixels: PixelCache | None = None,
    ) -> None:
        import torch

        super().__init__(cache)
        self.backbone = backbone
        self.view = view
        self.progress = progress
        self.pixels = pixels
        self.device = torch.device(view.device)
        self.module = backbone.module
        self.input_spec: InputSpec = backbone.input_spec
        self.feature_dim = backbone.feature_dim
        self.pooling = backbone.pooling
        self.provenance = backbone.provenance
        self.team: Team | None = None
        self.compiling = Compiling()
        self.seconds: dict[str, float] = {}
        self.stages: dict[str, StageSeconds] = {}
        self._noted = StageSeconds()
        self.computed: list[str] = []
        self.finding: precision.Choice | None = None
        self._memory: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._fingerprints: dict[str, Mapping[str, Any]] = {}

    @cached_property
    def weights(self) -> str:
        """Digest of the state_dict that was really loaded."""
        return state_digest(self.module)

    @cached_property
    def fixed_batch(self) -> Any:
        """The fixed probe batch, prepared once. Raises what the preprocessing raises."""
        return fingerprint.fixed_batch(self)

    @cached_property
    def conduct(self) -> str:
        """Digest of how the loaded model computes, beside its weights: its network, what its
        preprocessing makes of the fixed batch, and which files it was read from."""
        inputs = ""
        with contextlib.suppress(Exception):  # a model may refuse the batch: see `fingerprint`
            inputs = fingerprint.inputs(self.fixed_batch)["digest"]
        files = self.provenance.get("settings") or self.provenance.get("revision", "")
        return digest([*fingerprint.conduct(self.module), inputs, str(files)], 40)

    def fingerprint(self) -> Mapping[str, Any]:
        """What the model makes of the fixed probe batch in the precision taken, computed once, or
        why it could not be had: it attributes faults, and must not add one."""
        if self.precision not in self._fingerprints:
            try:
                found = fingerprint.fingerprint(self)
            except Exception as error:  # noqa: BLE001
                found = {"probe_batch": f"{type(error).__name__}: {error}"[:200]}
            self._fingerprints[self.precision] = found
        return self._fingerprints[self.precision]

    def as_kept(self, manifest: Mapping[str, Any]) -> bool:
        """Whether the model still makes of the fixed batch what it made when these features were
        computed: a key names what was thought of, and a fault may be of another kind."""
        mine, held = self.fingerprint().get("features"), manifest.get("probe")
        if mine is None or held is None:  # a model that refuses the batch has the key alone
            return mine is held
        exact = self.precision == "fp32" and self.device.type == "cpu"
        return fingerprint.alike(held, mine, exact)

    @property
    def precision(self) -> str:
        """What features are computed in; under "auto" fp32 until `settle` has found more."""
        if self.view.precision != "auto":
            return self.view.precision
        return self.finding.taken if self.finding is not None else "fp32"

    @cached_property
    def fast(self) -> Backbone:
        """The backbone as it is run for features: batch norms folded, where that is exact; of a
        variant the very object that is saved."""
        self.module.eval().to(self.device)
        return self.backbone if "variant" in self.provenance else folded(self.backbone)

    @cached_property
    def half(self) -> Backbone:
        """The model's bf16 variant: what the precision "bf16" computes features with, the same
        object as `MODEL?variant=bf16` is. Raises Unsupported."""
        self.module.eval().to(self.device)
        found = variants.made(self.backbone, "bf16")
        lay_out(found, self.device)
        return found

    def taking(self, kind: str) -> Backbone:
        """What computes features in the precision `kind`; a complete model that answers itself,
        under autocast, has no other than its own. Raises Unsupported."""
        halved = kind == "bf16" and not answers_itself(self.backbone)
        return self.half if halved else self.fast

    @cached_property
    def compiled(self) -> Compiled:
        """The network compiled for features, when the first of them are computed."""
        sequences = self.input_spec.modality != "image"
        run = self.taking(self.precision).embed
        return Compiled(run, sequences, self.compiling, coarse=self.precision == "bf16")

    @property
    def compiles(self) -> bool:
        """Whether features are computed by the compiled network: asked for, and not failed."""
        return self.view.compile and not self.compiling.failed

    def prepare(self, raw: Raw) -> Any:
        return self.backbone.prepare(raw)

    def collate(self, prepared: Sequence[Any]) -> Any:
        return self.backbone.collate(prepared)

    def embed(self, batch: Any) -> torch.Tensor:
        return self.backbone.embed(batch)

    def copy(self) -> Features:
        """The same source over a module of its own, to be trained; it keeps no features."""
        own = copy.copy(self.backbone)
        object.__setattr__(own, "module", copy.deepcopy(self.module))
        return self.over(own)

    def over(self, backbone: Backbone) -> Features:
        """The same view of another backbone; it keeps no features."""
        return Features(backbone, self.view, None, self.progress)

    @property
    def training_precision(self) -> str:
        """What training runs in: under "auto" bf16 autocast on a GPU (PROTOCOL section 2)."""
        if self.view.precision != "auto":
            return self.view.precision
        return "bf16" if self.device.type == "cuda" else "fp32"

    def precision_facts(self, trained: bool) -> dict[str, Any]:
        """For the record: what was computed in what, and under "auto" what was found."""
        if trained:
            return {"taken": self.training_precision}
        return self.finding.facts if self.finding is not None else {"taken": self.precision}

    def autocast(self, kind: str = "") -> Any:
        """bf16 autocast where `kind` (by default training's precision) is "bf16", else nothing."""
        import torch

        bf16 = (kind or self.training_precision) == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)

    def settle(self) -> None:
        """Resolve "auto", once and by no dataset. What a card's trial on the fixed probe set has
        found is kept on disk for the model as it was loaded and the kind of card."""
        if self.view.precision != "auto" or self.finding is not None:
            return
        if not precision.computes_bf16(self.device):
            self.finding = precision.Choice("fp32", "taken wherever there is no card with bf16")
            return
        path = None
        if self.cache is not None:
            about = [
                precision.VERSION, precision.BF16, self.ingredients(), timed_on(self.device)
            ]  # fmt: skip
            path = self.cache.root / "precision" / f"{digest(about, 40)}.json"
            with contextlib.suppress(OSError, ValueError):
                self.finding = precision.choice_of(unsealed(path.read_bytes()))
                return
        probes = precision.probe_set(self.input_spec.modality)
        try:
            self.finding = precision.choose(probes, self._compute)
        except Unsupported as error:
            self.finding = precision.Choice("fp32", f"it has no bf16 variant: {error}")
        except RuntimeError as error:  # of an operator that this card does not have in bf16
            if machine.out_of_memory(error):
                raise
            said = f"its bf16 variant does not run here: {one_line(error)}"
            self.finding, path = precision.Choice("fp32", said), None  # asked again next time
        if path is not None:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, sealed(self.finding.facts))

    def _compute(self, split: Split, kind: str, quick: bool = False) -> torch.Tensor:
        """(N, D) features in the precision `kind`, compiled where `quick`; nothing is kept."""
        job = Job(
            self.backbone, self.taking(kind), self.device,
            self.view.batch_size, 2 if kind == "bf16" else 4,
            # A sample is read by one model only.
            self.pixels if kind == self.precision else None,
            self.compiled if quick else None,
            self.noted,
        )  # fmt: skip
        return extract(job, split, self.reporter(split))

    def reporter(self, split: Split) -> Callable[[int], None]:
        """What is told how many examples of `split` are done."""

        def report(done: int) -> None:
            if self.progress is not None:
                self.progress(split.name, done, len(split))

        return report

    def key(self, split: Split) -> str:
        """Flips with each thing that can change a feature's value, and with nothing else."""
        compiled = {"compiled": True} if self.compiles else {}
        data = {
            "split": split.fingerprint,
            "reader": split.reader,
            "precision": precision.keyed(self.precision),
        }
        return digest({**self.ingredients(), **data, **compiled}, length=40)

    def ingredients(self) -> dict[str, Any]:
        """Of a key: what was loaded, and what computes with it."""
        import torch

        rules = getattr(self.backbone, "rules", "")
        return {
            **({"tokenizer": rules} if rules else {}),
            "version": CACHE_VERSION,
            "model": self.view.name,
            "weights": self.weights,
            "input": self.input_spec.digest,
            "pooling": self.pooling,
            "conduct": self.conduct,
            "folded": True,
            "device": self.device.type,
            "torch": torch.__version__,
            "libraries": self.provenance.get("libraries", {}),
        }

    def features(self, split: Split) -> torch.Tensor:
        """(N, D) float32 on the CPU. Raises NotFinite where the model gives NaN or infinity."""
        import torch

        key = self.key(split)
        if key not in self._memory:
            held = self.cache.get(key) if self.cache is not None else None
            if held is None or not self.as_kept(held[1]):
                features = self._extract_and_keep(split)
                key = self.key(split)  # the network may turn out not to compile
                self._memory[key] = features
            else:
                self._memory[key] = torch.from_numpy(held[0])
                self.took(split, held[1])
                if self.compiles and held[1].get("timed_on") == timed_on(self.device):
                    spent = float(held[1].get("compile_seconds", 0.0))
                    self.compiling.seconds = max(self.compiling.seconds, spent)
        self._memory.move_to_end(key)
        while len(self._memory) > 1 and self._held() > MEMORY_LIMIT_BYTES:
            self._memory.popitem(last=False)
        return self._memory[key]

    def has(self, split: Split) -> bool:
        """Whether the features of `split` need not be computed."""
        key = self.key(split)
        return key in self._memory or (self.cache is not None and self.cache.holds(key))

    def assemble(self, split: Split, parts: Sequence[Split]) -> None:
        """Take the features of `split` from those of `parts`, which hold its examples by id.

        So a subset that grows costs its new examples alone, and each part is kept on disk.
        """
        import torch

        place: dict[str, int] = {}
        for part in parts:
            for one in part.ids:
                place.setdefault(one, len(place))
        rows = torch.empty(len(place), self.feature_dim)
        for part in parts:
            rows[torch.tensor([place[one] for one in part.ids])] = self.features(part)
        self._memory[self.key(split)] = rows[torch.tensor([place[one] for one in split.ids])]
        prints = [part.fingerprint for part in parts]
        if self.seconds.keys() >= set(prints):
            self.seconds[split.fingerprint] = sum(self.seconds[one] for one in prints)
        if self.stages.keys() >= set(prints):
            self.stages[split.fingerprint] = sum((self.stages[one] for one in prints), NOTHING)

    def took(self, split: Split, facts: Mapping[str, Any]) -> None:
        """What the extraction of `split` took, as a manifest says it, if that was on this device
        with as many threads."""
        if facts.get("timed_on") == timed_on(self.device):
            self.seconds[split.fingerprint] = float(facts["seconds"])
            if (stages := StageSeconds.of(facts.get("stages"))) is not None:
                self.stages[split.fingerprint] = stages

    def noted(self, stages: StageSeconds) -> None:
        """What the extraction that has just ended spent its seconds on."""
        self._noted = stages

    def timing(self, seconds: float) -> dict[str, Any]:
        """For a manifest: what the extraction that has just ended took, and on what."""
        on = timed_on(self.device)
        return {"seconds": seconds, "timed_on": on, "stages": self._noted.facts()}

    def _held(self) -> int:
        return sum(tensor.nbytes for tensor in self._memory.values())

    def _extract_and_keep(self, split: Split) -> torch.Tensor:
        import torch

        started, before = worktime.now(), self.compiling.seconds
        features = self._compute(split, self.precision, self.compiles)
        seconds = worktime.now() - started - (self.compiling.seconds - before)
        key = self.key(split)
        if not bool(torch.isfinite(features).all()):
            bad = int((~torch.isfinite(features)).any(dim=1).sum())
            raise NotFinite(f"the features of {bad} of {len(split)} {split.name} examples")
        timing = self.timing(seconds)
        self.took(split, timing)
        self.computed.append(key)
        if self.cache is not None:
            facts = {
                **timing,
                "model": self.view.name,
                "probe": self.fingerprint().get("features"),
                **({"compile_seconds": self.compiling.seconds} if self.compiles else {}),
            }
            self.cache.put(key, features.numpy(), facts)
        return features
