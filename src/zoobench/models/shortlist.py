"""Models of the hubs that are worth a try on data that nobody has seen: the default candidates.

Mobile to base size, pretrained in different ways, permissive licences first. A row's order is
the order in which it is fetched: of `quick` each kind early and small ones first. Licences are
timm's and the repositories' own statements. The revision is not pinned here: which commit a
name meant when it was fetched stands in the records. Published results are in priors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoobench.schema import Modality

Kind = Literal[
    "supervised", "self-supervised", "image-text", "text pairs", "transcripts", "sound-text"
]
"""What the weights were pretrained by; "supervised" is by classes, perhaps after something else."""


@dataclass(frozen=True)
class Listed:
    """`name` as a suite names it; `params` as counted from the architecture with its own head."""

    name: str
    kind: Kind
    params: int
    license: str
    quick: bool = False

    @property
    def bytes(self) -> int:
        """Of the download, estimated: four for each parameter."""
        return 4 * self.params


CLASSES: Kind = "supervised"
SELF: Kind = "self-supervised"
CAPTIONS: Kind = "image-text"
PAIRS: Kind = "text pairs"
SPOKEN: Kind = "transcripts"
TOLD: Kind = "sound-text"
APACHE, MIT, BSD = "Apache-2.0", "MIT", "BSD-3-Clause"
QUICK = True

IMAGE: tuple[Listed, ...] = (
    Listed("timm/mobilenetv4_conv_small.e2400_r224_in1k", CLASSES, 3_774_024, APACHE, QUICK),
    Listed("timm/efficientnet_b0.ra_in1k", CLASSES, 5_288_548, APACHE, QUICK),
    Listed("timm/hgnetv2_b2.ssld_stage2_ft_in1k", CLASSES, 11_221_356, APACHE, QUICK),
    Listed("timm/vit_small_patch14_reg4_dinov2.lvd142m?input_size=224",
           SELF, 22_057_344, APACHE, QUICK),
    Listed("timm/convnext_tiny.in12k_ft_in1k", CLASSES, 28_589_128, APACHE, QUICK),
    Listed("timm/resnet50.tv_in1k", CLASSES, 25_557_032, "BSD-3-Clause", QUICK),
    Listed("timm/vit_small_patch16_224.augreg_in21k", CLASSES, 30_075_219, APACHE, QUICK),
    Listed("timm/vit_base_patch32_clip_224.laion2b", CAPTIONS, 87_849_728, APACHE, QUICK),
    Listed("timm/mobilenetv3_large_100.ra_in1k", CLASSES, 5_483_032, APACHE),
    Listed("timm/repvit_m1_0.dist_450e_in1k", CLASSES, 7_302_796, APACHE),
    Listed("timm/efficientvit_b1.r224_in1k", CLASSES, 9_102_024, APACHE),
    Listed("timm/mobilenetv4_conv_medium.e500_r256_in1k", CLASSES, 9_715_512, APACHE),
    Listed("timm/tiny_vit_5m_224.dist_in22k", CLASSES, 12_082_725, APACHE),
    Listed("timm/regnety_032.ra_in1k", CLASSES, 19_436_338, APACHE),
    Listed("timm/hgnetv2_b4.ssld_stage2_ft_in1k", CLASSES, 19_796_680, APACHE),
    Listed("timm/tiny_vit_21m_224.dist_in22k_ft_in1k", CLASSES, 21_198_568, APACHE),
    Listed("timm/eva02_small_patch14_224.mim_in22k", SELF, 21_621_120, MIT),
    Listed("timm/vit_small_patch16_224.dino", SELF, 21_665_664, APACHE),
    Listed("timm/deit3_small_patch16_224.fb_in22k_ft_in1k", CLASSES, 22_059_496, APACHE),
    Listed("timm/caformer_s18.sail_in22k_ft_in1k", CLASSES, 26_341_656, APACHE),
    Listed("timm/swin_tiny_patch4_window7_224.ms_in22k", CLASSES, 44_315_083, MIT),
    Listed("timm/tf_efficientnetv2_s.in21k", CLASSES, 48_158_371, APACHE),
    Listed("timm/convnext_small.in12k_ft_in1k", CLASSES, 50_223_688, APACHE),
    Listed("timm/vit_base_patch16_clip_224.datacompxl", CAPTIONS, 86_193_152, APACHE),
    Listed("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", CLASSES, 86_567_656, APACHE),
    Listed("timm/vit_base_patch14_reg4_dinov2.lvd142m?input_size=224", SELF, 86_582_016, APACHE),
    Listed("timm/deit3_base_patch16_224.fb_in22k_ft_in1k", CLASSES, 86_585_320, APACHE),
    Listed("timm/convnext_base.clip_laion2b", CAPTIONS, 88_222_464, APACHE),
    Listed("timm/convnext_base.fb_in22k_ft_in1k", CLASSES, 88_591_464, APACHE),
    Listed("timm/vit_base_patch16_siglip_224.v2_webli", CAPTIONS, 92_884_224, APACHE),
    Listed("timm/vit_small_patch16_dinov3.lvd1689m", SELF, 21_586_944, "dinov3-license"),
)  # fmt: skip

TEXT: tuple[Listed, ...] = (
    Listed("hf/BAAI/bge-small-en-v1.5", PAIRS, 33_360_000, MIT, QUICK),
    Listed("hf/intfloat/e5-small-v2", PAIRS, 33_360_000, MIT, QUICK),
    Listed("hf/sentence-transformers/all-MiniLM-L12-v2", PAIRS, 33_360_000, APACHE, QUICK),
    Listed("hf/distilbert/distilbert-base-uncased", SELF, 66_362_880, APACHE, QUICK),
    Listed("hf/sentence-transformers/all-mpnet-base-v2", PAIRS, 109_486_464, APACHE, QUICK),
    Listed("hf/sentence-transformers/paraphrase-MiniLM-L3-v2", PAIRS, 17_389_824, APACHE),
    Listed("hf/Snowflake/snowflake-arctic-embed-xs", PAIRS, 22_713_216, APACHE),
    Listed("hf/thenlper/gte-small", PAIRS, 33_360_000, MIT),
    Listed("hf/google-bert/bert-base-uncased", SELF, 109_482_240, APACHE),
    Listed("hf/BAAI/bge-base-en-v1.5", PAIRS, 109_482_240, MIT),
    Listed("hf/intfloat/e5-base-v2", PAIRS, 109_482_240, MIT),
    Listed("hf/intfloat/multilingual-e5-small", PAIRS, 117_653_760, MIT),
    Listed("hf/FacebookAI/roberta-base", SELF, 124_645_632, MIT),
    Listed("hf/microsoft/deberta-v3-small", SELF, 141_304_320, MIT),
    Listed("hf/answerdotai/ModernBERT-base", SELF, 149_014_272, APACHE),
)  # fmt: skip

AUDIO: tuple[Listed, ...] = (
    Listed("hf/ntu-spml/distilhubert", SELF, 23_492_992, APACHE, QUICK),
    Listed("hf/openai/whisper-tiny", SPOKEN, 37_760_640, APACHE, QUICK),
    Listed("hf/openai/whisper-base", SPOKEN, 72_593_920, APACHE, QUICK),
    Listed("hf/MIT/ast-finetuned-audioset-10-10-0.4593", CLASSES, 86_594_063, BSD, QUICK),
    Listed("hf/facebook/hubert-base-ls960", SELF, 94_371_712, APACHE, QUICK),
    Listed("hf/facebook/wav2vec2-base-960h", SPOKEN, 94_396_320, APACHE),
    Listed("hf/facebook/wav2vec2-base", SELF, 95_044_608, APACHE),
    Listed("hf/laion/clap-htsat-unfused", TOLD, 153_492_890, APACHE),
    Listed("hf/openai/whisper-small", SPOKEN, 241_734_912, APACHE),
    Listed("hf/microsoft/wavlm-base", SELF, 94_381_936, "unknown"),
    Listed("hf/microsoft/wavlm-base-plus", SELF, 94_381_936, "unknown"),
)
"""Of a recogniser, or what hears and reads, the whole download: the part that hears is judged."""

SHORTLIST: dict[Modality, tuple[Listed, ...]] = {"image": IMAGE, "text": TEXT, "audio": AUDIO}
