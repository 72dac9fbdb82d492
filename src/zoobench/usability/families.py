"""The architectures that a sweep asks: of each well-known family a small member or two.

A literal list, so that a table of answers stays comparable from one release to the next. What an
exporter can do depends on a family's operators and hardly on its size; so the small ones stand for
the rest, and 160 of them are asked in an hour or two.
"""

from __future__ import annotations

from zoobench.usability import encoders

TIMM = (
    # Convolutional networks.
    "resnet18", "resnet26d", "resnet34", "resnet50", "resnext50_32x4d", "seresnet18", "skresnet18",
    "ecaresnet26t", "gcresnext26ts", "resnetblur18", "resnetaa34d", "resnetv2_50", "resnest14d",
    "res2net50_26w_4s", "densenet121", "dla34", "dpn68", "ese_vovnet19b_dw", "hrnet_w18_small",
    "inception_v3", "xception41", "selecsls42", "cs3darknet_focus_s", "hgnetv2_b0",
    "regnetx_008", "regnety_008", "regnetz_b16", "gernet_s", "nf_regnet_b0", "nfnet_l0",
    "repvgg_a0", "convnext_atto", "convnext_tiny", "convnextv2_atto", "inception_next_tiny",
    "mambaout_femto",
    # Those for phones.
    "mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv3_large_100",
    "mobilenetv4_conv_small", "mobilenetv4_hybrid_medium", "mobileone_s1", "mobilevit_xxs",
    "mobilevitv2_050", "efficientnet_b0", "efficientnet_lite0", "efficientnetv2_rw_t",
    "tf_efficientnet_b0", "tf_efficientnetv2_b0", "mnasnet_100", "fbnetc_100", "lcnet_100",
    "tinynet_a", "mixnet_s", "ghostnet_100", "repghostnet_100", "rexnet_100", "fasternet_t0",
    "starnet_s1", "shvit_s1", "repvit_m1", "edgenext_xx_small", "fastvit_t8",
    # Transformers of one width.
    "vit_tiny_patch16_224", "vit_small_patch32_224", "vit_small_patch16_224",
    "vit_base_patch32_clip_224", "vit_small_patch16_dinov3", "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "eva02_tiny_patch14_224",
    "beit_base_patch16_224", "cait_xxs24_224", "xcit_nano_12_p16_224", "convit_tiny",
    # Those of stages, and mixtures.
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "maxvit_pico_rw_256",
    "coatnet_pico_rw_224", "coat_lite_tiny", "crossvit_tiny_240", "levit_128s", "pit_ti_224",
    "pvt_v2_b0", "poolformer_s12", "caformer_s18", "efficientformer_l1", "efficientformerv2_s0",
    "efficientvit_b0", "efficientvit_m0", "mvitv2_tiny", "hiera_tiny_224", "focalnet_tiny_srf",
    "davit_tiny", "twins_svt_small", "tiny_vit_5m_224",
    # Perceptrons.
    "mixer_s32_224", "gmlp_ti16_224",
)  # fmt: skip
TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet50", "shufflenet_v2_x1_0",
    "squeezenet1_1", "swin_t", "swin_v2_t", "vit_b_32",
)  # fmt: skip
SWEPT: dict[str, tuple[str, ...]] = {
    "timm": TIMM,
    "torchvision": TORCHVISION,
    "transformers": (*encoders.TEXT, *encoders.IMAGE),
}
"""Source -> the names in it; those of transformers are types of models."""
