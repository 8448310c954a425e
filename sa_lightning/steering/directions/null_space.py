"""AlphaSteer (Sheng et al., arXiv 2506.07022): a step that is a linear map of the state, and hardly one if benign."""

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering.typed import eigenvectors, pseudo_inverse

States = Float[Tensor, "prompts d_model"]


def null_space_projector(benign: States, share: float) -> Float[Tensor, "d_model d_model"]:
    """Return the projector on the directions in which benign states have the least energy.

    Eigenvectors of H_bᵀ H_b (uncentred), of which the given share with the smallest eigenvalues is kept; ties at the
    cut go to the order of `torch.linalg.eigh`. A state in the span of the others is mapped to 0. In float64.

    Args:
        benign: States of ordinary (and, as in the authors' code, of borderline) prompts.
        share: Of the dimensions, in (0, 1); their code keeps 30 to 60 %, layer by layer.

    Raises:
        SettingError: If `share` lies outside.
        DataError: If there are no states, or one is not finite.
    """
    if not 0 < share < 1:
        raise SettingError(
            f"The share of dimensions that count as free of benign states lies in (0, 1), but is {share}.\n"
            "None leaves nothing to steer in; all protect nothing.\nThe authors take 0.3 to 0.6."
        )
    if not len(benign) or not bool(torch.isfinite(benign).all()):
        raise DataError(
            f"There are {len(benign)} benign states, not all of them finite.\n"
            "What they do not use is where one may steer.\nGive benign prompts."
        )
    h = benign.double()
    kept = eigenvectors(h.T @ h)[:, : max(1, round(share * h.shape[1]))]
    return kept @ kept.T


def null_space_map(
    harmful: States, target: Float[Tensor, " d_model"], projector: Float[Tensor, "d_model d_model"], ridge: float = 10.0
) -> Float[Tensor, "d_model d_model"]:
    """Return Δ, for which Δ h is close to the target on harmful states, and small on those the projector leaves out.

    The paper's closed form: Δ = R H_mᵀ P (P H_m H_mᵀ P + a P)⁺ P, here with states as rows, in float64. The authors'
    code has a = 10.

    Args:
        harmful: States of harmful prompts.
        target: What is to be added to each, such as a refusal direction of some length.
        projector: From `null_space_projector`.
        ridge: a above; larger ones shrink Δ.

    Raises:
        SettingError: If `ridge` is negative.
        DataError: If there are no states, or one is not finite.
    """
    if not ridge >= 0:
        raise SettingError(f"The ridge is a penalty, at least 0, but is {ridge}.\nThe authors take 10.")
    if not len(harmful) or not bool(torch.isfinite(harmful).all()):
        raise DataError(
            f"There are {len(harmful)} harmful states, not all of them finite.\n"
            "The map is fitted on them.\nGive harmful prompts."
        )
    p = projector.double()
    seen = harmful.double() @ p
    gram = seen.T @ seen + ridge * p @ p.T
    return target.double()[:, None] * seen.sum(0) @ pseudo_inverse(gram) @ p
