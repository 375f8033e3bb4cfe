"""Several processes get the loss of all their pixels together, and train with its gradient."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing, nn

from cleft.losses.pixelwise import BalancedCELoss, CELoss, FocalLoss, SensitivitySpecificityLoss
from cleft.losses.region import (
    BoundaryLoss,
    DiceLoss,
    DSCLoss,
    GeneralisedDiceLoss,
    LovaszLoss,
    MCCLoss,
    TverskyLoss,
)
from cleft.losses.youden import BinaryJLoss, JCLoss, JLoss

PROCESSES = 2
LOSSES = {
    "j": JLoss(0.7), "j of images": JLoss(0.7, reduction="image"), "jc": JCLoss([0.3, 0.5, 0.7]),
    "jc of images": JCLoss(0.7, reduction="image"), "ce": CELoss(), "wce": BalancedCELoss(),
    "dsc": DSCLoss(), "dice": DiceLoss(), "gdl": GeneralisedDiceLoss(), "tversky": TverskyLoss(),
    "focal": FocalLoss(), "mcc": MCCLoss(), "sens-spec": SensitivitySpecificityLoss(),
    "boundary": BoundaryLoss(0.1),
}  # fmt: skip


def batches() -> tuple[Tensor, Tensor, Tensor]:
    """Images and classes, one for each process: different counts, and a class that only one has."""
    source = torch.Generator().manual_seed(0)
    images = torch.randn((PROCESSES, 2, 6, 6), generator=source, dtype=torch.float64)
    classes = torch.randint(0, 3, (PROCESSES, 6, 6), generator=source)
    classes[0][classes[0] == 2] = 0
    classes[1, :4] = 255
    nothing = torch.full_like(classes, 255)
    nothing[0] = classes[0]
    return images, classes, nothing


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(2, 3, 3, padding=1).double()


def gradient(net: nn.Module) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in net.parameters()])


def one_of_several(rank: int, folder: str) -> None:
    """Write the value and the gradient of each loss as this process of a data-parallel training sees them."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES
    )
    images, classes, nothing = batches()
    found = {}
    for name, loss in (LOSSES | {"lovasz": LovaszLoss()}).items():
        for case, truth in (("some", classes), ("none", nothing)):
            # averages the gradients, as every data-parallel training does
            net = nn.parallel.DistributedDataParallel(network())
            value = loss(net(images[rank : rank + 1]), truth[rank : rank + 1])
            value.backward()
            found[f"{name} {case}"] = (value.detach(), gradient(net))
    odds = images[rank : rank + 1, 0]
    found["binary"] = (BinaryJLoss()(odds, torch.where(classes == 2, 1, classes)[rank : rank + 1]), odds)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each process found."""
    if not torch.distributed.is_available():
        pytest.skip("this build of torch has no processes that talk to each other")
    folder: Path = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(one_of_several, (str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", ["some", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_one_process(seen: list[dict], name: str, case: str) -> None:
    """``none``: the second process has nothing annotated at all."""
    images, classes, nothing = batches()
    truth = classes if case == "some" else nothing
    assert (truth[0] == 255).sum() < (truth[1] == 255).sum()
    net = network()
    value = LOSSES[name](net(images), truth)
    value.backward()
    for of_rank in seen:
        found, slope = of_rank[f"{name} {case}"]
        torch.testing.assert_close(found, value.detach())
        torch.testing.assert_close(slope, gradient(net))


def test_a_mean_of_the_processes_own_values_would_be_another_number() -> None:
    """Otherwise the test above could not fail."""
    images, classes, _ = batches()
    net = network()
    for name in LOSSES.keys() - {"j of images"}:  # whose images are one to a process here
        loss = LOSSES[name]
        together = loss(net(images), classes)
        apart = [loss(net(images[i : i + 1]), classes[i : i + 1]) for i in range(PROCESSES)]
        assert abs(together - sum(apart) / PROCESSES) > 1e-4


def test_the_binary_form_over_processes(seen: list[dict]) -> None:
    images, classes, _ = batches()
    expected = BinaryJLoss()(images[:, 0], torch.where(classes == 2, 1, classes))
    for of_rank in seen:
        torch.testing.assert_close(of_rank["binary"][0], expected)


def test_lovasz_is_each_process_s_own(seen: list[dict]) -> None:
    """As documented: a pixel's rank among all pixels is no sum. The gradient is that of the mean."""
    images, classes, _ = batches()
    net = network()
    own = [LovaszLoss()(net(images[i : i + 1]), classes[i : i + 1]) for i in range(PROCESSES)]
    (sum(own) / PROCESSES).backward()
    for value, of_rank in zip(own, seen, strict=True):
        found, slope = of_rank["lovasz some"]
        torch.testing.assert_close(found, value.detach())
        torch.testing.assert_close(slope, gradient(net))
