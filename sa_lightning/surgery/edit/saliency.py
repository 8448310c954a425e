"""Saliencies: how much the loss on given prompts hangs on each weight, from the gradients of single examples."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from sa_lightning.errors import DataError, ModelError, NothingToDoError
from sa_lightning.files import whole_directory
from sa_lightning.surgery.checkpoints.streaming import Progress
from sa_lightning.surgery.checkpoints.weights import ModelWeights, NamedTensors
from sa_lightning.surgery.selection.table import SELECTIONS

__all__ = ["Example", "saliency_scores", "write_scores"]


class Example(NamedTuple):
    """Tokens of a prompt and its response, and how many of them are the prompt's."""

    tokens: Sequence[int]
    prompt: int


def saliency_scores(
    model: nn.Module,
    examples: Iterable[Example],
    names: Iterable[str],
    kind: str = "snip",
    progress: Progress | None = None,
    weights: ModelWeights | None = None,
) -> NamedTensors:
    """Score every entry, in float32, by the gradients of the loss L of single examples.

    L is the mean loss of the response's tokens given the prompt. The model is as before afterwards. Memory: the
    gradient and the score of the parameters asked for, on the model's device.

    - `snip`: |w| · mean |∂L/∂w|, what setting the weight to zero would do, to first order. The absolute value is taken
      for each example before the mean, as in the code of Wei et al. (https://arxiv.org/abs/2402.05162); SNIP:
      https://arxiv.org/abs/1810.02340.
    - `fisher`: √F with F = mean (∂L/∂w)², the diagonal of the empirical Fisher information, as in Fisher-weighted
      merging (Matena and Raffel, https://arxiv.org/abs/2111.09832; there labels are drawn from the model, here they are
      the given responses). The root ranks as F does, and stays within the range of float32.

    Args:
        model: A causal language model of transformers.
        examples: One at a time, without padding.
        names: Parameters to score, as `weights` calls them.
        kind: A name in `SELECTIONS`, of one that ranks by scores.
        progress: Called after every example.
        weights: Its weights, by other names than those of its `state_dict`, as on disk.

    Raises:
        ModelError: If the model has no such parameter.
        DataError: If an example has no response, or there is none.
        NothingToDoError: If the loss does not depend on any of the parameters.
    """
    weights = weights or ModelWeights(model)
    wanted, chosen = set(names), list(examples)
    missing = sorted(wanted - set(weights.names))
    if missing:
        raise ModelError(
            f"{weights.source} has no `{missing[0]}` in memory ({len(missing)} such names).\n"
            "Scores are gradients of the loaded model; some families rename or fuse weights when they are loaded.\n"
            f"Leave it out: `scope.exclude: ['{missing[0]}']`."
        )
    if not chosen:
        raise DataError("There are no prompts to score weights on.\nA score says what the loss on them hangs on.")
    owners = {name: weights.owner(name) for name in weights.names if name in wanted}
    parameters = list({id(owner): owner for owner in owners.values()}.values())
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    training, saliency = model.training, SELECTIONS[kind].saliency
    assert saliency is not None, kind
    scores = [torch.zeros_like(parameter, dtype=torch.float32, requires_grad=False) for parameter in parameters]
    model.eval()
    try:
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        for done, example in enumerate(chosen, 1):
            with torch.inference_mode(False), torch.enable_grad():  # Lightning validates without
                loss = response_loss(model, example)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for score, gradient in zip(scores, gradients, strict=True):
                if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison]  # of what is unused
                    score += saliency.each(gradient.float()) / len(chosen)
            if progress:
                progress("scoring weights", done, len(chosen))
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
        model.train(training)
    with torch.no_grad():
        means = {id(parameter): score for parameter, score in zip(parameters, scores, strict=True)}
        found: dict[str, Tensor] = {}
        for name, owner in owners.items():
            live = weights.parameter(name)
            mean = means[id(owner)].as_strided(
                live.shape, live.stride(), live.storage_offset() - owner.storage_offset()
            )
            found[name] = saliency.score(mean, live.float()).cpu()
    if not any(bool(score.any()) for score in found.values()):
        raise NothingToDoError(f"The loss on the prompts hangs on none of the {len(found)} parameters in scope.")
    return NamedTensors(found, f"{kind} scores")


def check_example(example: Example) -> None:
    """Refuse an example without a prompt or without a response."""
    if not 0 < example.prompt < len(example.tokens):
        raise DataError(
            f"An example has {len(example.tokens)} tokens, of which {example.prompt} are the prompt's.\n"
            "The loss is taken on the response, so there must be a prompt and a response."
        )


def response_loss(model: Any, example: Example) -> Tensor:
    """Mean cross-entropy, in float32, of the response's tokens given what precedes them."""
    check_example(example)
    device = next(model.parameters()).device
    tokens = torch.tensor([list(example.tokens)], device=device)
    logits = model(input_ids=tokens, use_cache=False).logits[0, example.prompt - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, tokens[0, example.prompt :])


def write_scores(scores: NamedTensors, directory: str | Path, metadata: dict[str, str]) -> None:
    """Write scores as a directory that `open_checkpoint` reads, and `--scores` takes."""
    path = Path(directory).expanduser()
    tensors = {name: scores.parameter(name).contiguous() for name in scores.names}
    with whole_directory(path) as partial:
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt", **metadata})
        (partial / "config.json").write_text('{"tie_word_embeddings": false}\n', encoding="utf-8")
