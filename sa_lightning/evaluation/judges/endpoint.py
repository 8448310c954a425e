"""A judge's model behind an OpenAI-compatible server: vLLM, llama.cpp, a vendor's."""

import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sa_lightning.errors import JudgeError, SettingError
from sa_lightning.evaluation.judges.rubrics import Question
from sa_lightning.files import Json
from sa_lightning.foreign.showing import one_line

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before another try; each wait is twice the last
_PASSING = frozenset({408, 425, 429})  # and all from 500 on
_OURS = frozenset({400, 413, 422})  # this question is refused, another may not be
_LARGEST, _PIECE = 16 << 20, 1 << 13  # bytes of an answer, decompressed, and of it that are read at a time
_QUOTED = 12  # letters in a row that a server's text and a question have in common: it quotes the question


class _UnreadableError(Exception):
    """An answer is too long, too slow, or no JSON."""


class AllRefusedError(JudgeError):
    """A server refuses every question that it was asked."""


@dataclass
class Endpoint:
    """A judge's model behind a server that speaks OpenAI's protocol.

    Args:
        base_url: Where the server is, up to and including `/v1`.
        model: The model's name, as the server knows it.
        api_key_env: Name of the environment variable that holds the key; no key is sent if not set.
        concurrency: Requests under way at a time.
        timeout: Seconds that one request may take, from the first byte sent to the last one read.
        retries: Further tries after a refusal that passes (408, 425, 429, 5xx), a timeout or a lost connection, with
            waits of half a second, one, two, …
        extra: Further fields of each request, such as `{"seed": 1}`; null takes a field out.
    """

    base_url: str | None = field(default=None, repr=False)  # a password may stand in it
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 6
    extra: Json = field(default_factory=dict)
    identity: str = field(init=False, repr=False)
    markers: tuple[str, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        self.identity = f"endpoint {self.base_url} {self.model} {sorted(self.extra.items())}"

    def check(self) -> None:
        """Refuse settings that cannot be meant, a key that is not there, and a server that does not answer."""
        import requests

        if not _is_address(self.base_url or ""):
            raise SettingError(
                f"`endpoint.base_url` is the address of a server, but is {self.place!r}.\n"
                "Questions are sent there.\nWrite it whole, for example `http://localhost:8000/v1`."
            )
        if not self.model:
            raise SettingError(
                f"`endpoint.model` is not set, and {self.place} may serve several.\n"
                "A verdict is worth what its judge is worth.\nName it as the server does: `--endpoint.model`."
            )
        for name, least in (("concurrency", 1), ("retries", 0), ("timeout", 0.001)):
            if not getattr(self, name) >= least:
                raise SettingError(
                    f"`endpoint.{name}` must be at least {least}, but is {getattr(self, name)}.\n"
                    f"Nothing could be asked.\nLeave it out for the default."
                )
        self._key()
        try:
            self._session().get(
                f"{self._root}/models", timeout=min(self.timeout, 10.0), stream=True, allow_redirects=False
            ).close()
        except requests.RequestException as error:
            raise self._absent(error) from None

    def answer(self, questions: Sequence[Question], new_tokens: int) -> Iterator[tuple[int, str | None]]:
        """Yield answers as they come in.

        A question that the server refuses for itself (400, 413, 422: too long, filtered) is answered by None; the
        answer to a conversation is empty where it was cut short.

        Raises:
            AllRefusedError: If the server refuses every question.
            JudgeError: If it cannot be reached, or refuses us.
        """
        session, stop = self._session(), threading.Event()
        refused: list[str] = []
        # Not left by `with`, which would wait for requests under way before an error is shown.
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            under_way = {
                pool.submit(self._ask, session, question, new_tokens, stop, refused): index
                for index, question in enumerate(questions)
            }
            for future in as_completed(under_way):
                yield under_way[future], future.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if len(refused) == len(questions):
            raise AllRefusedError(
                f"{self.place} refused all {len(questions)} questions; it says: {refused[0]}\n"
                "Replies that no judge has read are not judged.\n"
                "Check `endpoint.model`, and what the server allows; `endpoint.extra` adds and removes fields."
            )

    @property
    def place(self) -> str:
        """The server's address, without a password that may stand in it."""
        return re.sub(r"^(https?:/*)?.*@", r"\1", self.base_url or "", flags=re.DOTALL)

    @property
    def _root(self) -> str:
        return (self.base_url or "").rstrip("/")

    def _ask(
        self, session: Any, question: Question, new_tokens: int, stop: threading.Event, refused: list[str]
    ) -> str | None:
        import requests
        from urllib3.exceptions import HTTPError

        path, body = self._request(question, new_tokens)
        problem = ""
        for attempt in range(self.retries + 1):
            if stop.is_set():
                return None
            asked_to_wait = 0.0
            try:
                began = time.monotonic()
                with session.post(
                    f"{self._root}{path}", json=body, timeout=self.timeout, stream=True, allow_redirects=False
                ) as response:
                    if response.is_redirect:
                        raise self._sends_elsewhere(response)
                    text = _read(response, began + self.timeout)
                if response.ok:
                    return _answer_in(self._parsed(text, question))
                if response.status_code in _OURS:
                    refused.append(self._said(text, question))
                    return None
                problem = f"HTTP {response.status_code}: {self._said(text, question)}"
                if response.status_code < 500 and response.status_code not in _PASSING:
                    raise self._refuses_us(response.status_code, problem)
                asked_to_wait = _seconds(response.headers.get("Retry-After"))
            except _UnreadableError as error:
                problem = str(error)
            except (requests.RequestException, HTTPError, OSError, ValueError, LookupError, TypeError) as error:
                problem = self._short(error)
            if attempt < self.retries:
                wait = FIRST_WAIT * 2**attempt * random.uniform(0.75, 1.25)
                stop.wait(min(LONGEST_WAIT, max(wait, asked_to_wait)))
        raise JudgeError(
            f"{self.place} gave no answer in {self.retries + 1} tries; the last: {problem}\n"
            "A reply without an answer would look unjudged for good.\n"
            "What was answered is kept: run the same command again, with a smaller `--endpoint.concurrency` or a "
            "longer `--endpoint.timeout` if the server is busy."
        )

    def _request(self, question: Question, new_tokens: int) -> tuple[str, Json]:
        # The server puts the token that text begins with in front itself.
        path, asked = (
            ("/completions", {"prompt": question.removeprefix("<s>")})
            if isinstance(question, str)
            else ("/chat/completions", {"messages": question})
        )
        body = {"model": self.model, **asked, "temperature": 0, "max_tokens": new_tokens, **self.extra}
        return path, {name: value for name, value in body.items() if value is not None}

    def _session(self) -> Any:
        import requests
        from requests.adapters import HTTPAdapter

        key = self._key()

        def sign(request: Any) -> Any:  # also keeps requests from taking a password out of ~/.netrc
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        session = requests.Session()
        session.auth = sign
        adapter = HTTPAdapter(pool_maxsize=self.concurrency)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def _key(self) -> str:
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if re.fullmatch(r"[ -~]+", key):
            return key
        # Somebody may have written the key itself.
        is_name = re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", self.api_key_env)
        name = f"${self.api_key_env}" if is_name else "a variable (its name is not shown: it may be the key itself)"
        if key:
            raise SettingError(
                f"`endpoint.api_key_env` names {name}, whose value has a line break or another character that no key "
                "has.\nIt is sent in one line of ASCII characters.\nSet the variable to the key and nothing else."
            )
        raise SettingError(
            f"`endpoint.api_key_env` names {name}, which is not set.\n"
            "The key is read from the environment, so that it is never written down.\n"
            "Set the variable, or leave the option out if the server needs no key."
        )

    def _parsed(self, text: str, question: Question) -> Json:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise _UnreadableError(f"its answer is no JSON: {self._said(text, question)}") from None

    def _sends_elsewhere(self, response: Any) -> JudgeError:
        there = re.sub(r"//[^/]*@", "//", str(response.headers.get("Location", "")))
        return JudgeError(
            f"{self.place} sends us on to another address: {self._shown(there)}\n"
            "Questions and keys are sent to the server that was named, and to no other.\n"
            "If that address is right, name it as `--endpoint.base_url`."
        )

    def _said(self, text: str, question: Question) -> str:
        with suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), ensure_ascii=False)
        shown = self._shown(text)
        return "(its text is left out: it quotes the question)" if _quotes(shown, question) else shown

    def _short(self, error: BaseException) -> str:
        """Say what is behind an error: `requests` wraps it several times."""
        while error.__context__ is not None:
            error = error.__context__
        return self._shown(f"{type(error).__name__}: {error}")

    def _shown(self, text: str) -> str:
        """Return the start of a text in one line, without key and password."""
        for secret, public in ((self._userinfo, ""), (self._key(), "…")):
            text = text.replace(secret, public) if secret else text
        return one_line(text)[:300]

    @property
    def _userinfo(self) -> str:
        before, at, _ = (self.base_url or "").rpartition("@")
        return before.rpartition("://")[2] + at

    def _refuses_us(self, status: int, problem: str) -> JudgeError:
        if status in (401, 403):
            sent = f"the key in ${self.api_key_env}" if self.api_key_env else "no key"
            return JudgeError(
                f"{self.place} refuses us (HTTP {status}); it was sent {sent}.\nWithout it no reply is judged.\n"
                "Name the environment variable that holds a valid key: `--endpoint.api_key_env`."
            )
        return JudgeError(
            f"{self.place} does not know what was asked for, {self.model}: {problem}\n"
            "No reply can be judged there.\nCheck `--endpoint.base_url` (it ends with /v1) and `--endpoint.model`."
        )

    def _absent(self, error: Exception) -> JudgeError:
        return JudgeError(
            f"No server answers at {self.place}: {self._short(error)}\nThe judge is asked there.\n"
            "Start it (`vllm serve MODEL`, for example), or correct `--endpoint.base_url`."
        )


def _read(response: Any, deadline: float) -> str:
    """Read an answer, decompressed, up to a size and a time: neither a slow server nor a small archive holds us up."""
    read = bytearray()
    while piece := response.raw.read1(_PIECE, decode_content=True):
        read += piece
        if len(read) > _LARGEST:
            raise _UnreadableError(f"its answer has more than {_LARGEST >> 20} MiB")
        if time.monotonic() > deadline:
            raise _UnreadableError(f"its answer had not ended in time, after {len(read)} bytes")
    return read.decode(errors="replace")


def _answer_in(body: Json) -> str:
    choice = body["choices"][0]
    if "message" not in choice:
        return str(choice["text"] or "")
    said = str(choice["message"]["content"] or "")
    return "" if choice.get("finish_reason") == "length" else said


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False


def _quotes(text: str, question: Question) -> bool:
    said = _letters(text)
    asked = [question] if isinstance(question, str) else [message["content"] for message in question]
    return any(
        piece and piece in said
        for letters in map(_letters, asked)
        for piece in {letters[start : start + _QUOTED] for start in range(max(1, len(letters) - _QUOTED + 1))}
    )


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _seconds(header: str | None) -> float:
    try:
        return float(header or 0)
    except ValueError:  # a date, which few servers send
        return 0.0
