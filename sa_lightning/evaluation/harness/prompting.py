"""An instruction with every prompt, or against it: safety by words alone, without touching weights or states."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sa_lightning.errors import ModelError, SettingError

__all__ = ["Prompting"]


@dataclass(frozen=True)
class Prompting:
    """What is said to a model besides the prompt.

    Args:
        instruction: A text that is put before every prompt; nothing is, if not set.
        role: Where it stands: `user`, before the text of the first user message and a space; `system`, as a system
            message in front, or before the text and a space of one that a task brings.
        contrast: If not set, the model answers the prompts with the instruction. If set, it decodes by Self-CD (Shi et
            al., arXiv 2401.17633) with this ratio r: each token of a reply is chosen from y_with − r · (y_with −
            y_without), the logits with and without the instruction, so 0 is with it, 1 without it, and more leads away
            from it; the authors' code has 2.5. What is measured by the likelihood of answers is then asked without
            the instruction.

    Raises:
        SettingError: If the instruction is blank, there is a contrast without one, or a ratio that is not finite.
    """

    instruction: str | None = None
    role: Literal["system", "user"] = "user"
    contrast: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.instruction is not None and not self.instruction.strip():
            raise SettingError(
                f"`instruction` is {self.instruction!r}, in which nothing is said.\nPrompts would stay as they are.\n"
                "Write an instruction, or leave it out."
            )
        if self.contrast is not None and self.instruction is None:
            raise SettingError(
                f"`contrast` is {self.contrast}, but there is no `instruction`.\n"
                "It compares replies with an instruction and without it.\nGive `instruction`, or leave `contrast` out."
            )
        if self.contrast is not None and not math.isfinite(self.contrast):
            raise SettingError(
                f"`contrast` is {self.contrast}.\nLogits are multiplied by it.\n"
                "Give a finite number: 2.5 as in the authors' code, 1 for prompts without the instruction."
            )

    def check(self, tokenizer: Any) -> None:
        """Refuse a chat template that does not write the instruction.

        Raises:
            ModelError: With what it says, and the way out.
        """
        from sa_lightning.models import render  # with transformers

        plain = [{"role": "user", "content": "How are you?"}]
        try:
            if self.instruction is None or self.instruction.strip() in render(tokenizer, self.instructed(plain)):
                return
            said = "It leaves it out."
        except ModelError as error:
            said = str(error).split("\n")[0]
        raise ModelError(
            f"The chat template does not write the instruction {self.instruction!r} as the {self.role}'s. {said}\n"
            "Prompts with it would be prompts without it.\n"
            + (
                "Set the role `user`, as in `prompting.role: user`."
                if self.role == "system"
                else "Give another `--template`."
            )
        )

    def instructed(self, history: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return a conversation with the instruction in it, and the one that was given as it was.

        Example:
            >>> Prompting("Be kind.").instructed([{"role": "user", "content": "Who are you?"}])
            [{'role': 'user', 'content': 'Be kind. Who are you?'}]
        """
        found = [dict(message) for message in history]
        if self.instruction is None:
            return found
        places = [number for number, message in enumerate(found) if message["role"] == self.role]
        if places and (self.role == "user" or places[0] == 0):
            found[places[0]]["content"] = f"{self.instruction} {found[places[0]]['content']}"
        elif self.role == "system":
            found.insert(0, {"role": "system", "content": self.instruction})
        return found
