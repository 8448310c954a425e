"""ArmDataModule: what is compared in a validation, one arm a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sa_lightning.errors import DataError
from sa_lightning.ranges import check_numbers


class Arm(NamedTuple):
    """One state of the model.

    Attributes:
        name: As in results.json.
        edited: Whether the surgery is applied.
        steered: Whether the artifact's directions act.
        control: Seed of random directions that take the place of the fitted ones, or None.
        gated: Whether the artifact's gates decide which prompts are steered; if not, all are.
    """

    name: str
    edited: bool = False
    steered: bool = False
    control: int | None = None
    gated: bool = True


# Ordered so that the surgery is applied once and undone once.
ARMS = (
    Arm("original"),
    Arm("steered", steered=True),
    Arm("edited", edited=True),
    Arm("edited+steered", edited=True, steered=True),
)
# Where gates are told apart: what the directions do to every prompt, and what is left of it behind the gates.
ARMS_APART = (
    Arm("original"),
    Arm("steered", steered=True, gated=False),
    Arm("gated", steered=True),
    Arm("edited", edited=True),
    Arm("edited+steered", edited=True, steered=True, gated=False),
    Arm("edited+gated", edited=True, steered=True),
)


def choose_arms(
    names: Sequence[str] | None,
    *,
    has_artifact: bool,
    has_surgery: bool,
    has_gate: bool = False,
    gates_apart: bool = False,
    random_directions: int = 0,
) -> list[Arm]:
    """Return the arms to run: those asked for, or all that the artifact allows.

    Args:
        names: Names of arms, or None for all that are possible.
        has_artifact: Whether there are directions.
        has_surgery: Whether the artifact records a parameter edit.
        has_gate: Whether the artifact has a gate.
        gates_apart: Choose from `ARMS_APART`: steered is every prompt, and gated are arms of their own.
        random_directions: Add so many arms `random-1`, `random-2`, …: the original weights, steered
            along random directions of the same strength.

    Raises:
        DataError: If an arm is unknown or not possible, or gates are to be told apart and there are none.
    """
    if gates_apart and not has_gate:
        raise DataError(
            "`gates_apart` measures steering without and with its gates, but there is no artifact with a gate.\n"
            "Both arms would be the same.\n"
            "Give an `--artifact` that was fitted with `--steering.gate.kind`, or leave it out."
        )
    possible = [
        arm
        for arm in (ARMS_APART if gates_apart else ARMS)
        if (has_artifact or not (arm.steered or arm.edited)) and (has_surgery or not arm.edited)
    ]
    known = {arm.name: arm for arm in possible}
    if names is not None and not names:
        raise DataError(
            "`data.arms` is empty.\nThere would be nothing to measure.\nLeave it out to run all arms that are possible."
        )
    for name in names or ():
        if name not in known:
            raise DataError(
                f"There is no arm `{name}` here; possible: {', '.join(known)}.\n"
                "`steered` needs an artifact (`--artifact`), `edited` one whose fit had a `surgery`.\n"
                "Leave out `--data.arms` to run all that are possible."
            )
    check_numbers("data.random_directions", random_directions)
    if random_directions and not has_artifact:
        raise DataError(
            "Random directions are a control for fitted ones, and no artifact was given.\n"
            "Their site and strength come from it.\nPass `--artifact DIR/artifact`."
        )
    chosen = [arm for arm in possible if names is None or arm.name in names]
    controls = [Arm(f"random-{seed}", steered=True, control=seed) for seed in range(1, random_directions + 1)]
    return sorted(chosen + controls, key=lambda arm: arm.edited)


class ArmDataModule(LightningDataModule):
    """The arms of a validation.

    Args:
        arms: Which of `original`, `steered`, `edited`, `edited+steered` to run; all that the artifact
            allows if not set.
        random_directions: Add so many control arms, steered along random directions of the same
            strength. At least 20 tell whether a fitted direction does more than any would.
        gates_apart: Measure what the artifact's gates do. `steered` then steers every prompt as one that the gates
            find, and arms `gated` and `edited+gated` leave it to the gates; without this, `steered` does.
    """

    def __init__(self, arms: list[str] | None = None, random_directions: int = 0, gates_apart: bool = False) -> None:
        super().__init__()
        self.gates_apart = gates_apart
        self.names = arms
        self.random_directions = random_directions
        self.arms: list[Arm] = []

    def choose(self, *, has_artifact: bool, has_surgery: bool, has_gate: bool = False) -> list[Arm]:
        """Fix the arms once it is known what the artifact holds."""
        self.arms = choose_arms(
            self.names,
            has_artifact=has_artifact,
            has_surgery=has_surgery,
            has_gate=has_gate,
            gates_apart=self.gates_apart,
            random_directions=self.random_directions,
        )
        return self.arms

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the arms, all of them in every process: what is dealt to processes are the prompts of each."""
        return DataLoader(self.arms, batch_size=None)  # type: ignore[arg-type]  # a list is a data set
