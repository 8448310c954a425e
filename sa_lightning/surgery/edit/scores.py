"""Scores of the target's weights: kept in a directory, or computed from prompts."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sa_lightning.errors import CheckpointMismatchError, SettingError
from sa_lightning.files import sha256
from sa_lightning.surgery.checkpoints.checkpoint import Checkpoint
from sa_lightning.surgery.checkpoints.opening import open_checkpoint
from sa_lightning.surgery.checkpoints.weights import NamedTensors, Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.edit.saliency import write_scores

__all__ = ["Score", "known_scores"]

# (kind of saliency, file of prompts, names of parameters) -> scores
Score = Callable[[str, str, Sequence[str]], NamedTensors]


def known_scores(
    kind: str,
    directory: str | None,
    prompts: str | None,
    delta: Delta,
    target: Checkpoint,
    score: Score | None,
    *,
    keep: bool = True,
) -> Weights:
    """Read scores from a directory, if it is there; otherwise compute them from prompts, and `keep` them there.

    Raises:
        CheckpointMismatchError: If those of the directory are of another kind, of other prompts, weights or names.
        SettingError: If there is nothing to read, and nothing to compute them from.
    """
    if directory is not None and (Path(directory) / "model.safetensors").exists():
        scores = open_checkpoint(directory)
        asked = prompts and Path(prompts).is_file() and _digest(prompts)
        if asked and scores.metadata.get("prompts", asked) != asked:
            raise CheckpointMismatchError(
                f"The scores in {directory} were computed on other prompts than {prompts} holds now.\n"
                "A score says how much the loss on some prompts hangs on a weight.\n"
                "Choose another directory for `scores`, or leave `prompts` out to use these."
            )
        found = scores.metadata.get("kind", "snip")
        if found != kind:
            raise CheckpointMismatchError(
                f"The scores in {directory} are {found} scores, and {kind} scores are asked for.\n"
                "The two rank weights by different numbers.\nChoose another directory for `scores`."
            )
        of = scores.metadata.get("weights")
        if of is not None and of != target.fingerprint():
            raise CheckpointMismatchError(
                f"The scores in {directory} are of other weights ({of[:12]}) than {target.source} has "
                f"({target.fingerprint()[:12]}).\nA score says how much a loss hangs on one weight of one model.\n"
                "Choose another directory for `scores`; they are computed anew."
            )
        wrong = [n for n in delta.names if n not in scores.names or scores.shape(n) != delta.shape(n)]
        if wrong:
            raise CheckpointMismatchError(
                f"The scores in {directory} have no `{wrong[0]}` of shape {delta.shape(wrong[0])} ({len(wrong)} such "
                "names).\nThey were computed for a narrower scope.\nCompute them again, or narrow `scope`."
            )
        return scores
    if prompts is None:
        raise SettingError(
            f"`scores` is {directory}, which does not exist, and there are no `prompts` to compute scores from.\n"
            "Check the path, or give a JSONL file of prompts and responses."
        )
    if directory is not None and os.path.lexists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise SettingError(
            f"`scores` is {directory}, which holds no scores, but something else.\n"
            "Scores are kept in a directory of their own.\nName one that does not exist yet."
        )
    if score is None:
        raise SettingError("Scores need the model itself.\nCompute them with `sa edit`, and give `scores`.")
    scores = score(kind, prompts, delta.names)
    if directory is not None and keep:
        about = {"kind": kind, "weights": target.fingerprint(), "prompts": _digest(prompts)}
        write_scores(scores, directory, about)
    return scores


def _digest(file: str) -> str:
    return sha256(file) if Path(file).is_file() else file
