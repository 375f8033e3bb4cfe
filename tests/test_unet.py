"""The network: He's start, one code path for planes and stacks, and how far a pixel can act."""

import math

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from cleft.core.downsample import pyramid_strides
from cleft.core.settings import NetSettings
from cleft.models.batch_renorm import MAX_SCALE, MAX_SHIFT, BatchRenorm
from cleft.models.file import dynunet_name
from cleft.models.unet import UNet, memory_format, net_stride, receptive_field_radius

Strides = tuple[tuple[int, ...], ...]

NETS: dict[str, Strides] = {
    "2D three levels": ((2, 2),) * 2,
    "2D four levels": ((2, 2),) * 3,
    "3D three levels": ((2, 2, 2),) * 2,
    "anisotropic stack": ((1, 2, 2), (2, 2, 2)),
    "anisotropic plane": ((1, 2), (2, 2)),
    "first axis never halved": ((1, 2, 2), (1, 2, 2)),
}


def started(seed: int, strides: Strides, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return UNet(NetSettings(width=width, strides=strides))


def test_weights_start_from_he_normal(ndim: int) -> None:
    """Standard deviation sqrt(2 / fan in), as for ReLU, and the tails of a normal distribution."""
    net = started(0, ((2,) * ndim,) * 2, width=16)
    ratios, kurtosis = [], []
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and module.weight.numel() > 5000:
            fan_in = module.weight[0].numel()
            w = module.weight.detach().double()
            ratios.append(w.std().item() / math.sqrt(2 / fan_in))
            kurtosis.append((w**4).mean().item() / w.var().item() ** 2)
    assert len(ratios) >= 5
    np.testing.assert_allclose(ratios, 1, atol=0.05)
    np.testing.assert_allclose(kurtosis, 3, atol=0.3)  # 1.8 if drawn from a uniform


def test_biases_start_at_zero_and_normalisation_at_identity(ndim: int) -> None:
    net = started(0, ((2,) * ndim,) * 2)
    for name, tensor in net.state_dict().items():
        if name.endswith(("bias", "running_mean", "num_batches_tracked")):
            assert not tensor.any(), name
        if name.endswith("running_var"):
            assert (tensor == 1).all(), name


def test_normalisation_does_not_depend_on_the_tile(ndim: int) -> None:
    kinds = {type(m) for m in started(0, ((2,) * ndim,) * 2).modules() if "orm" in type(m).__name__}
    assert kinds == {BatchRenorm}


def test_a_seed_fixes_every_weight(ndim: int) -> None:
    strides = ((2,) * ndim,) * 2
    first, again, other = started(3, strides), started(3, strides), started(4, strides)
    for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("strides", NETS.values(), ids=NETS)
@pytest.mark.parametrize(("channels", "n_classes"), [(1, 4), (3, 3)])
def test_shapes(strides: Strides, channels: int, n_classes: int) -> None:
    settings = NetSettings(channels=channels, n_classes=n_classes, width=2, strides=strides)
    net = UNet(settings).eval()
    shape = tuple(2 * s for s in net_stride(settings))
    assert net(torch.zeros(2, channels, *shape)).shape == (2, n_classes, *shape)


def dynunet(settings: NetSettings) -> nn.Module:
    """MONAI's network of this shape, which our models had before we wrote our own."""
    levels = len(settings.strides) + 1
    return DynUNet(
        spatial_dims=len(settings.strides[0]), in_channels=settings.channels, out_channels=4,
        kernel_size=[3] * levels, strides=[1, *settings.strides], upsample_kernel_size=settings.strides,
        filters=[settings.width << level for level in range(levels)],
        norm_name=("batch", {"momentum": 0.02}), act_name="relu",
    )  # fmt: skip


@pytest.mark.parametrize(
    "strides", [*NETS.values(), ((1, 2, 2), (2, 2, 2), (2, 2, 2)), ((3, 1), (4, 2)), ((1, 3, 4), (2, 2, 1))]
)
def test_it_is_monai_s_dynunet(strides: Strides) -> None:
    """Bit for bit: weights of a seed, answer and gradient in training, averages, answer at prediction."""
    settings = NetSettings(channels=2, width=3, strides=strides)
    torch.manual_seed(3)
    ours = UNet(settings)
    torch.manual_seed(3)
    theirs = dynunet(settings)
    x = torch.randn(2, 2, *(2 * s for s in net_stride(settings)))
    assert torch.equal(ours(x), theirs(x))
    for net in (ours, theirs):
        net(x).square().sum().backward()
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    weights, parameters = theirs.state_dict(), dict(theirs.named_parameters())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, weights[dynunet_name(name, len(ours.encoder))]), name
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter.grad, parameters[dynunet_name(name, len(ours.encoder))].grad), name


def test_the_paper_s_features() -> None:
    """Five levels of 64 to 1024 features."""
    net = UNet(NetSettings(width=64, strides=((2, 2),) * 4))
    assert {m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)} == {4, 64, 128, 256, 512, 1024}


def test_a_depth_one_stack_net_has_the_topology_of_the_plane_net() -> None:
    """The same layers in the same order; only the kernels have one more axis."""
    plane, stack = started(0, ((2, 2),) * 2), started(0, ((1, 2, 2),) * 2)
    named = zip(plane.state_dict().items(), stack.state_dict().items(), strict=True)
    for (name, a), (other, b) in named:
        assert name == other
        assert a.shape[:2] == b.shape[:2]
        assert a.ndim == b.ndim or a.ndim + 1 == b.ndim


def test_channels_last_changes_nothing(ndim: int) -> None:
    net = started(0, ((2,) * ndim,) * 2).eval()
    x = torch.randn(2, 1, *(8,) * ndim)
    with torch.inference_mode():
        plain = net(x)
        last = net.to(memory_format=memory_format(ndim))(x.to(memory_format=memory_format(ndim)))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("spacing", "levels", "expected"),
    [
        ((1.0, 1.0), 3, ((2, 2), (2, 2))),
        ((0.2, 0.2, 0.2), 2, ((2, 2, 2),)),
        ((2.0, 0.5, 0.5), 4, ((1, 2, 2), (1, 2, 2), (2, 2, 2))),
        ((1.0, 0.6, 0.6), 3, ((2, 2, 2), (2, 2, 2))),
        ((0.5, 1.0), 3, ((2, 1), (2, 2))),
        ((0.3, 0.1), 4, ((1, 2), (2, 2), (2, 2))),
    ],
)
def test_a_coarse_axis_waits(spacing: tuple[float, ...], levels: int, expected: Strides) -> None:
    assert pyramid_strides(spacing, levels) == expected
    assert pyramid_strides([7 * s for s in spacing], levels) == expected


@pytest.mark.parametrize("spacing", [(1, 1), (3, 1, 1), (5.5, 0.3, 0.7)])
def test_pixels_of_the_coarsest_level_are_nearly_cubes(spacing: tuple[float, ...]) -> None:
    size = np.array(spacing) * np.prod(pyramid_strides(spacing, 6), axis=0)
    assert size.max() / size.min() < 2


def reached(net: nn.Module, settings: NetSettings, sure: bool) -> np.ndarray:
    """How far, along each axis, a change of one pixel was seen to change the result."""
    stride, reach = np.array(net_stride(settings)), np.array(receptive_field_radius(settings))
    shape = tuple(int(n) for n in -(-(2 * reach + 2 * stride) // stride) * stride)
    torch.manual_seed(5)
    # all weights positive and nothing but the one pixel: then whatever it can reach is above 0
    base = torch.zeros(1, 1, *shape) if sure else torch.rand(1, 1, *shape)
    farthest = np.zeros(len(shape), int)
    with torch.inference_mode():
        before = net(base)
        for offset in range(int(stride.max())):
            at = (reach // stride) * stride + offset % stride
            changed = base.clone()
            changed[(0, 0, *at)] += 1000.0
            where = torch.nonzero((net(changed) != before)[0].any(0)).numpy()
            farthest = np.maximum(farthest, np.abs(where - at).max(0))
    return farthest


@pytest.mark.parametrize("strides", NETS.values(), ids=NETS)
def test_nothing_acts_beyond_the_reach(strides: Strides) -> None:
    """Random weights and batch normalisation as it is at the start; the halo of a tile rests on this."""
    settings = NetSettings(width=4, strides=strides)
    net = started(1, strides).eval()
    farthest = reached(net, settings, sure=False)
    assert (farthest <= receptive_field_radius(settings)).all()
    assert (farthest > 2).all()  # something was seen at all


@pytest.mark.parametrize("strides", NETS.values(), ids=NETS)
def test_the_reach_is_not_loose(strides: Strides) -> None:
    """With positive weights every path is open: at least half of the reach is really used."""
    settings = NetSettings(width=2, strides=strides)
    net = started(1, strides, width=2).eval()
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.abs_()
        for name, tensor in net.named_parameters():
            if name.endswith("bias"):
                tensor.zero_()
    farthest = reached(net, settings, sure=True)
    assert (farthest <= receptive_field_radius(settings)).all()
    assert (2 * farthest >= receptive_field_radius(settings)).all()


@pytest.mark.parametrize("strides", NETS.values(), ids=NETS)
def test_the_reach_keeps_tiles_in_step_with_the_stride(strides: Strides) -> None:
    settings = NetSettings(strides=strides)
    assert not (np.array(receptive_field_radius(settings)) % net_stride(settings)).any()


def test_three_and_four_classes_start_from_the_same_weights(ndim: int) -> None:
    strides: Strides = ((2,) * ndim,) * 2
    states = []
    for n_classes in (3, 4):
        torch.manual_seed(5)
        states.append(UNet(NetSettings(width=4, n_classes=n_classes, strides=strides)).state_dict())
    three, four = states
    assert three.keys() == four.keys()
    for name, weights in three.items():
        head = name.startswith("head")
        assert torch.equal(weights, four[name][:3] if head else four[name]), name
        assert not head or four[name].shape[0] == 4


# batch renormalisation


def layers(ndim: int, trust: float) -> tuple[BatchRenorm, nn.Module, torch.Tensor]:
    """A layer with averages of its own, torch's with the same, and features."""
    torch.manual_seed(0)
    ours, theirs = BatchRenorm(3, momentum=0.1), (nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 2](3, momentum=0.1)
    ours.running_mean.normal_(0, 0.5)
    ours.running_var.uniform_(0.5, 2)
    nn.init.uniform_(ours.weight, 0.5, 2)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    ours.trust = trust
    return ours, theirs, torch.randn(2, 3, *(6,) * ndim) * 1.3 + 0.4


def test_without_trust_and_at_prediction_it_is_batch_normalisation(ndim: int) -> None:
    for trust, training in ((0.0, True), (0.0, False), (1.0, False)):
        ours, theirs, x = layers(ndim, trust)
        assert torch.equal(ours.train(training)(x), theirs.train(training)(x))
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_with_trust_features_in_training_are_those_of_prediction(ndim: int) -> None:
    ours, theirs, x = layers(ndim, 1.0)
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    before = theirs.running_mean.clone()
    torch.testing.assert_close(
        ours.running_mean, 0.9 * before + 0.1 * x.transpose(0, 1).flatten(1).mean(1)
    )  # and the averages go on


def test_gradients_know_that_a_batch_is_normalised_by_itself(ndim: int) -> None:
    """Those of batch normalisation times a constant: a shift of the features has none."""
    ours, _, x = layers(ndim, 1.0)
    x.requires_grad_()
    weight = torch.randn_like(x)
    (ours(x) * weight).sum().backward()
    y = x.detach().clone().requires_grad_()
    mean, spread = (f(y.transpose(0, 1).flatten(1), 1) for f in (torch.mean, lambda v, d: v.var(d, False)))
    shape = (1, 3, *(1,) * ndim)
    spread = (spread + ours.eps).sqrt()
    again, _, _ = layers(ndim, 1.0)
    constant = (spread / (again.running_var + again.eps).sqrt()).detach() * ours.weight.detach()
    normal = (y - mean.reshape(shape)) / spread.reshape(shape) * constant.reshape(shape)
    (normal * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-4, rtol=1e-3)
    assert x.grad.transpose(0, 1).flatten(1).sum(1).abs().max() < 1e-3


def test_averages_far_from_a_batch_are_followed_so_far_and_no_farther() -> None:
    layer = BatchRenorm(1, affine=True)
    layer.trust = 1.0
    x = torch.randn(1, 1, 100) * 10 + 100
    y = layer(x)
    assert y.std(unbiased=False).item() == pytest.approx(MAX_SCALE, rel=1e-3)
    assert y.mean().item() == pytest.approx(MAX_SHIFT, rel=1e-3)
