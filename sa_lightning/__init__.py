"""Make a language model safer at test time, without training it.

    from sa_lightning import SteeringArtifact, steer

    artifact = SteeringArtifact.from_pretrained("runs/first/artifact")
    with steer(model, artifact):
        model.generate(...)

Importing the package costs nothing; each name loads its room when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa_lightning.steered import steer
    from sa_lightning.steering import SteeringArtifact

__version__ = "0.1.0"
__all__ = ["SteeringArtifact", "__version__", "steer"]


def __getattr__(name: str) -> Any:
    if name == "SteeringArtifact":
        from sa_lightning.steering import SteeringArtifact

        return SteeringArtifact
    if name == "steer":
        from sa_lightning.steered import steer

        return steer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
