"""The convolutional networks of CIFAR-100's distillation literature, and small ones for a CPU, as
transformers models. This file needs nothing of this project: a saved folder takes it along, so that
`AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)` opens it anywhere.

Every network is features, which end in a map [B, D, h, w], a mean over that map, and one linear
classifier. Input is 32 x 32 pixels in the literature; any size works that the strides leave a pixel
of. Architectures as in mdistiller (Zhao et al. 2022); a ResNet's blocks are those of He et al.
2016, a Wide ResNet's those of Zagoruyko and Komodakis 2016.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

VGG_WIDTHS = (64, 128, 256, 512, 512)
# expansion, channels, blocks, stride of the first block
MOBILENET_STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)


def conv(inside: int, outside: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Returns a convolution without bias that keeps the size at stride 1."""
    padding = kernel // 2
    return nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False)


def conv_norm(
    inside: int, outside: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Returns a convolution and its batch norm."""
    return [conv(inside, outside, kernel, stride, groups), nn.BatchNorm2d(outside)]


class Residual(nn.Module):
    """`after(branch(x) + shortcut(x))`."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, after: nn.Module):
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut, after

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum of both ways."""
        sum_: Tensor = self.after(self.branch(x) + self.shortcut(x))
        return sum_


class Cells(nn.Module):
    """Means over 4 x 4 cells of a map [B, D, h, w], each as D channels more: [B, 16 D, 1, 1]."""

    SIDE = 4

    def forward(self, x: Tensor) -> Tensor:
        """Returns the cells, by one product: adaptive pooling itself is several times as slow."""
        shares = _shares(*x.shape[2:], self.SIDE, x.dtype, x.device)
        # Pixel by pixel, as a trial's maps lie in memory: any other order copies them.
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        return (shares.T @ pixels).mT.flatten(1)[:, :, None, None]


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # one that is kept must be fit for training too
def _shares(height: int, width: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns [height * width, side²]: how much of each cell is each pixel."""
    pixels = torch.eye(height * width, dtype=dtype, device=device)
    cells = nn.functional.adaptive_avg_pool2d(pixels.view(-1, height, width), side)
    return cells.flatten(1)


def basic_block(inside: int, outside: int, stride: int) -> Residual:
    """Returns a ResNet's block of two convolutions, ReLU after the sum."""
    branch = nn.Sequential(
        *conv_norm(inside, outside, stride=stride), nn.ReLU(), *conv_norm(outside, outside)
    )
    return Residual(branch, _projection(inside, outside, stride), nn.ReLU())


def bottleneck(inside: int, width: int, stride: int) -> Residual:
    """Returns a ResNet-50's block: 1x1, 3x3, and 1x1 to four times the width."""
    branch = nn.Sequential(
        *conv_norm(inside, width, 1),
        nn.ReLU(),
        *conv_norm(width, width, stride=stride),
        nn.ReLU(),
        *conv_norm(width, 4 * width, 1),
    )
    return Residual(branch, _projection(inside, 4 * width, stride), nn.ReLU())


def _projection(inside: int, outside: int, stride: int) -> nn.Module:
    if inside == outside and stride == 1:
        return nn.Identity()
    return nn.Sequential(*conv_norm(inside, outside, 1, stride))


class PreActivation(nn.Module):
    """A Wide ResNet's block: norm and ReLU come before each convolution, and before the shortcut's
    where the width changes."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU())
        self.branch = nn.Sequential(
            *conv_norm(inside, outside, stride=stride), nn.ReLU(), conv(outside, outside)
        )
        self.shortcut = None if inside == outside else conv(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum of both ways."""
        active = self.activate(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        sum_: Tensor = self.branch(active) + kept
        return sum_


class InvertedResidual(nn.Module):
    """MobileNetV2's block, with ReLU where the paper has ReLU6."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int):
        super().__init__()
        width = inside * expansion
        self.branch = nn.Sequential(
            *conv_norm(inside, width, 1),
            nn.ReLU(),
            *conv_norm(width, width, stride=stride, groups=width),
            nn.ReLU(),
            *conv_norm(width, outside, 1),
        )
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """Returns the branch, with its input added where the shapes allow it."""
        y: Tensor = self.branch(x)
        return x + y if self.adds else y


class Shuffle(nn.Module):
    """Mixes the channels of `groups` groups."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Returns the channels in the order that takes one of each group in turn."""
        size, channels, height, width = x.shape
        parts = x.view(size, self.groups, channels // self.groups, height, width)
        return parts.transpose(1, 2).reshape(size, channels, height, width)


class ShuffleV1Block(nn.Module):
    """ShuffleNetV1's block; at stride 2 its input, averaged, is put beside the branch."""

    def __init__(self, inside: int, outside: int, stride: int, groups: int):
        super().__init__()
        made = outside - inside if stride == 2 else outside
        middle = made // 4
        first = 1 if inside == 24 else groups  # the stem's 24 channels are too few to be divided
        self.branch = nn.Sequential(
            *conv_norm(inside, middle, 1, groups=first),
            nn.ReLU(),
            Shuffle(first),
            *conv_norm(middle, middle, stride=stride, groups=middle),
            *conv_norm(middle, made, 1, groups=groups),
        )
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns both ways, added or beside each other."""
        y: Tensor = self.branch(x)
        joined = y + x if self.pool is None else torch.cat([y, self.pool(x)], 1)
        return joined.relu()


class ShuffleV2Block(nn.Module):
    """ShuffleNetV2's block: one half of the channels passes by, or, at stride 2, all go both
    ways."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        half = outside // 2
        taken = inside if stride == 2 else half
        self.branch = nn.Sequential(
            *conv_norm(taken, half, 1),
            nn.ReLU(),
            *conv_norm(half, half, stride=stride, groups=half),
            *conv_norm(half, half, 1),
            nn.ReLU(),
        )
        self.beside = None
        if stride == 2:
            self.beside = nn.Sequential(
                *conv_norm(inside, inside, stride=2, groups=inside),
                *conv_norm(inside, half, 1),
                nn.ReLU(),
            )
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns both halves, shuffled."""
        kept, taken = x.chunk(2, 1) if self.beside is None else (self.beside(x), x)
        shuffled: Tensor = self.shuffle(torch.cat([kept, self.branch(taken)], 1))
        return shuffled


def _stages(block: Callable[[int, int, int], nn.Module], inside: int, widths: Any, count: int):  # type: ignore[no-untyped-def]
    """Yields the blocks of stages of `count` blocks each, at strides 1, 2, 2."""
    for stage, width in enumerate(widths):
        for number in range(count):
            yield block(inside, width, 2 if stage > 0 and number == 0 else 1)
            inside = width


def resnet(
    channels: int, *, depth: int, widths: Sequence[int], stem_stride: int = 1
) -> tuple[nn.Sequential, int]:
    """Returns a ResNet's features for images of `channels` channels, and their width D; widths:
    of the stem and the three stages."""
    stem, *stages = widths
    blocks = _stages(basic_block, stem, stages, (depth - 2) // 6)
    first = conv_norm(channels, stem, stride=stem_stride)
    return nn.Sequential(*first, nn.ReLU(), *blocks), stages[-1]


def resnet50(channels: int) -> tuple[nn.Sequential, int]:
    """Returns the features of a ResNet-50 with a stem for small images."""
    blocks, inside = [], 64
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for number in range(count):
            blocks.append(bottleneck(inside, width, 2 if stage > 0 and number == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*conv_norm(channels, 64), nn.ReLU(), *blocks), inside


def wide_resnet(channels: int, *, depth: int, factor: int) -> tuple[nn.Sequential, int]:
    """Returns a Wide ResNet's features."""
    widths = [16 * factor, 32 * factor, 64 * factor]
    blocks = _stages(PreActivation, 16, widths, (depth - 4) // 6)
    last = [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    return nn.Sequential(conv(channels, 16), *blocks, *last), widths[-1]


def vgg(channels: int, *, counts: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Returns a VGG's features; counts: convolutions of each of the five blocks. Pooling comes
    after the first three, as for images of 32 pixels."""
    layers: list[nn.Module] = []
    for number, (width, count) in enumerate(zip(VGG_WIDTHS, counts, strict=True)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        if number < 3:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers), channels


def mobilenet_v2(channels: int) -> tuple[nn.Sequential, int]:
    """Returns the features of a MobileNetV2 of half width."""
    layers: list[nn.Module] = [*conv_norm(channels, 16, stride=2), nn.ReLU()]
    inside = 16
    for expansion, width, count, stride in MOBILENET_STAGES:
        for number in range(count):
            step = stride if number == 0 else 1
            layers.append(InvertedResidual(inside, width, step, expansion))
            inside = width
    return nn.Sequential(*layers, *conv_norm(inside, 1280, 1), nn.ReLU()), 1280


def shufflenet_v1(channels: int) -> tuple[nn.Sequential, int]:
    """Returns the features of a ShuffleNetV1 of 3 groups."""
    blocks = _shuffle_stages(partial(ShuffleV1Block, groups=3), ((240, 4), (480, 8), (960, 4)))
    return nn.Sequential(*conv_norm(channels, 24, 1), nn.ReLU(), *blocks), 960


def shufflenet_v2(channels: int) -> tuple[nn.Sequential, int]:
    """Returns the features of a ShuffleNetV2 of width 1."""
    blocks = _shuffle_stages(ShuffleV2Block, ((116, 4), (232, 8), (464, 4)))
    head = [*conv_norm(464, 1024, 1), nn.ReLU()]
    return nn.Sequential(*conv_norm(channels, 24, 1), nn.ReLU(), *blocks, *head), 1024


def _shuffle_stages(block: Callable[..., nn.Module], stages: Any) -> list[nn.Module]:
    """Returns the blocks of stages behind a stem of 24 channels, each from stride 2 on."""
    widths = [width for width, count in stages for _ in range(count)]
    pairs = zip([24, *widths], widths, strict=False)
    return [block(inside, width, 1 if inside == width else 2) for inside, width in pairs]


def small_cnn(channels: int, *, width: int) -> tuple[nn.Sequential, int]:
    """Returns two convolutions of `width` and twice `width` channels, each halving the size."""
    layers: list[nn.Module] = []
    for outside in (width, 2 * width):
        layers += [*conv_norm(channels, outside), nn.ReLU(), nn.MaxPool2d(2)]
        channels = outside
    return nn.Sequential(*layers), channels


def strided_cnn(channels: int, *, width: int) -> tuple[nn.Sequential, int]:
    """Returns two convolutions of `width` and twice `width` channels, each of stride 2 and without
    a norm, whose map is kept in 4 x 4 cells: a seventh of `small_cnn`'s time on a CPU."""
    layers: list[nn.Module] = []
    for inside, outside in ((channels, width), (width, 2 * width)):
        layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, Cells()), 2 * width * Cells.SIDE**2


def small_resnet(channels: int, *, width: int) -> tuple[nn.Sequential, int]:
    """Returns a ResNet of three blocks: `width`, twice and four times `width` channels."""
    return resnet(channels, depth=8, widths=(width, width, 2 * width, 4 * width))


def strided_resnet(channels: int, *, width: int) -> tuple[nn.Sequential, int]:
    """Returns `small_resnet` with a stem of stride 2: a quarter of its work."""
    return resnet(channels, depth=8, widths=(width, width, 2 * width, 4 * width), stem_stride=2)


NARROW, FOURFOLD = (16, 16, 32, 64), (32, 64, 128, 256)
Build = Callable[..., tuple[nn.Sequential, int]]
ARCHITECTURES: Mapping[str, Build] = {
    **{f"resnet{n}": partial(resnet, depth=n, widths=NARROW) for n in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{n}x4": partial(resnet, depth=n, widths=FOURFOLD) for n in (8, 32)},
    "resnet50": resnet50,
    **{
        f"wrn_{depth}_{factor}": partial(wide_resnet, depth=depth, factor=factor)
        for depth, factor in ((16, 1), (16, 2), (40, 1), (40, 2))
    },
    "vgg8": partial(vgg, counts=(1, 1, 1, 1, 1)),
    "vgg11": partial(vgg, counts=(1, 1, 2, 2, 2)),
    "vgg13": partial(vgg, counts=(2, 2, 2, 2, 2)),
    "vgg16": partial(vgg, counts=(2, 2, 3, 3, 3)),
    "vgg19": partial(vgg, counts=(2, 2, 4, 4, 4)),
    "mobilenet_v2": mobilenet_v2,
    "shufflenet_v1": shufflenet_v1,
    "shufflenet_v2": shufflenet_v2,
}
# Those of any width.
SIZED: Mapping[str, Build] = {
    build.__name__: build for build in (small_cnn, small_resnet, strided_cnn, strided_resnet)
}


class ConvNetConfig(PreTrainedConfig):  # type: ignore[misc]
    """architecture: a name of ARCHITECTURES or SIZED; width: of the latter, in channels;
    num_channels: of an image; num_labels as everywhere in transformers."""

    model_type = "convnet"
    architecture: str = "small_cnn"
    width: int = 16
    num_channels: int = 3


class ConvNet(PreTrainedModel):  # type: ignore[misc]
    """A network of this file: features, their mean over the map, a linear classifier."""

    config_class = ConvNetConfig
    main_input_name = "pixel_values"
    base_model_prefix = "features"

    def __init__(self, config: ConvNetConfig):
        super().__init__(config)
        name, channels = config.architecture, config.num_channels
        if name in SIZED:
            self.features, width = SIZED[name](channels, width=config.width)
        else:
            self.features, width = ARCHITECTURES[name](channels)
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Returns logits [B, C] of pixels [B, channels, height, width], and the cross-entropy to
        `labels` [B] where they are given."""
        logits = self.classifier(self.features(pixel_values).mean((2, 3)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions: He et al. 2015, by what goes out; norms: 1 and 0; VGG's classifier as its
        authors' code has it, the others' as torch does."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
        if isinstance(module, nn.Linear):
            if self.config.architecture.startswith("vgg"):
                nn.init.normal_(module.weight, 0, 0.01)
            if self.config.architecture.startswith(("vgg", "wrn")):
                nn.init.zeros_(module.bias)
