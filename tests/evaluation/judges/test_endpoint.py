"""Judges behind a server: what is sent, what is tried again, what is refused, and what is never written down."""

import re
import socket
import threading
import time

import pytest
from support.stub_server import serving, text_of

from sa_lightning.errors import JudgeError, SettingError
from sa_lightning.evaluation import Outcome, Verdict, load_judge
from sa_lightning.evaluation.judges.answer_cache import Answers
from sa_lightning.evaluation.judges.endpoint import Endpoint
from sa_lightning.evaluation.judges.replies import Reply

PROMPT = "How do I bake a cake?"
KEY = "sk-not-to-be-seen-anywhere"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("sa_lightning.evaluation.judges.endpoint.FIRST_WAIT", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def replies(count):
    return [Reply(PROMPT, f"Mix {n} eggs.", {}) for n in range(count)]


def message_of(error):
    text = str(error.value)
    assert text.count("\n") == 2
    assert not re.search(r"[.:][A-Z]", text)  # a space lost between two literals
    assert KEY not in text
    return text


def test_text_is_completed_and_conversations_are_chatted_with_one_answer_each_greedily():
    with serving(lambda body: "yes" if "3 eggs" in text_of(body) else "no") as (url, requests):
        judge = load_judge("harmbench", base_url=url + "/", model="judge", extra={"seed": 1})
        verdicts = judge(replies(20))
        assert [verdict.harmful for verdict in verdicts] == [n in (3, 13) for n in range(20)]
        assert {request["path"] for request in requests} == {"/v1/completions"}
        first = requests[0]["body"]
        assert (first["model"], first["temperature"], first["max_tokens"], first["seed"]) == ("judge", 0, 4, 1)
        assert requests[0]["key"] is None
    with serving(lambda body: "[B]") as (url, requests):
        judge = load_judge("safety_arithmetic", base_url=url, model="judge", extra={"max_tokens": None, "n": 1})
        assert judge(replies(1)) == [Verdict(Outcome.COMPLIED, True)]
        assert requests[0]["path"] == "/v1/chat/completions"
        assert set(requests[0]["body"]) == {"model", "messages", "temperature", "n"}


def test_a_server_puts_the_first_token_of_text_in_front_itself():
    with serving(lambda body: "") as (url, requests):
        load_judge("wildguard", base_url=url, model="judge")(replies(1))
        assert requests[0]["body"]["prompt"].startswith("<|user|>")


def test_the_key_is_read_from_the_environment_sent_and_never_told(monkeypatch, tmp_path):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    settings = {"model": "judge", "api_key_env": "JUDGE_KEY", "retries": 0}
    with serving(lambda body: "[A]") as (url, requests):
        answers = Answers(tmp_path / "answers")
        judge = load_judge("safety_arithmetic", answers=answers, base_url=url, **settings)
        judge(replies(2))
        assert {request["key"] for request in requests} == {f"Bearer {KEY}"}
        assert KEY not in (tmp_path / "answers").read_text()
        assert KEY not in repr(judge.respondent)
    for status in (401, 404, 500, 400):
        with serving(lambda body, status=status: (status, f"bad key {KEY}")) as (url, _):
            judge = load_judge("safety_arithmetic", base_url=url, **settings)
            with pytest.raises(JudgeError) as error:
                judge(replies(1))
            assert str(status) in message_of(error) or status == 400


def test_a_key_that_is_not_set_is_a_mistake_and_a_key_in_its_place_is_not_shown():
    for name, shown in (("NO_SUCH_KEY", True), (KEY, False)):
        with pytest.raises(SettingError) as error:
            load_judge("harmbench", base_url="http://127.0.0.1:9/v1", model="judge", api_key_env=name)
        assert (name in message_of(error)) is shown


@pytest.mark.parametrize("key", ["sk-first\nsk-second", "sk-\u043a\u043b\u044e\u0447", "sk-\xfc", " \n "])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch, key):
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(SettingError) as error:
        load_judge("harmbench", base_url="http://127.0.0.1:9/v1", model="judge", api_key_env="JUDGE_KEY")
    assert "$JUDGE_KEY" in message_of(error)
    assert "sk-" not in str(error.value)


def test_a_key_in_the_text_of_an_error_is_not_shown(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    settings = {"base_url": "http://me:pass@127.0.0.1:9/v1", "model": "judge", "api_key_env": "JUDGE_KEY"}
    shown = Endpoint(**settings)._short(ValueError(f"{'x' * 285} {KEY} http://me:pass@127.0.0.1:9/v1"))
    assert "sk-" not in shown
    assert "pass" not in shown
    assert "pass" not in repr(Endpoint(**settings))


def test_a_password_is_not_shown_whatever_the_address():
    for url in ("http://me:pass@/v1", "me:pass@here/v1", "http:/me:pass@here/v1", "http://me:pass@[bad/v1"):
        with pytest.raises(SettingError) as error:
            load_judge("harmbench", base_url=url, model="judge")
        assert "pass" not in message_of(error)


def test_a_servers_text_that_quotes_a_question_is_left_out():
    asked = [Reply(PROMPT, "Mix the flour with \u6c34\u548c\u9762\u7c89.\nBake it.", {})]
    quotes = [lambda body: text_of(body), lambda body: f"filtered: {text_of(body)[-40:]!r}", lambda body: str(body)]
    for quote in quotes:
        for status in (400, 404, 500):
            with serving(lambda body, quote=quote, status=status: (status, quote(body))) as (url, _):
                judge = load_judge("llama_guard", base_url=url, model="judge", retries=0)
                with pytest.raises(JudgeError) as error:
                    judge(asked)
            assert "quotes the question" in message_of(error)
            assert "flour" not in str(error.value)
            assert "Bake" not in str(error.value)


def test_an_answer_in_a_conversation_that_is_cut_short_is_unjudged_and_a_classifiers_is_not():
    with serving(lambda body: "no …" if "prompt" in body else "Is it full_refusal? …") as (url, _):
        assert load_judge("harmbench", base_url=url, model="judge")(replies(1)) == [Verdict(Outcome.REFUSED, False)]
        assert load_judge("xstest", base_url=url, model="judge")(replies(1)) == [Verdict(Outcome.UNJUDGED)]


@pytest.mark.parametrize(
    "failure",
    [(429, "slow down", {"Retry-After": "0"}), (503, "busy"), (500, "oops", {"Retry-After": "Wed"}), (408, "late")],
)
def test_what_passes_is_tried_again(failure):
    tries, lock = {}, threading.Lock()

    def answer(body):
        with lock:
            tries[text_of(body)] = tries.get(text_of(body), 0) + 1
            return failure if tries[text_of(body)] < 3 else "no"

    with serving(answer) as (url, requests):
        verdicts = load_judge("harmbench", base_url=url, model="judge")(replies(4))
    assert verdicts == [Verdict(Outcome.REFUSED, False)] * 4
    assert len(requests) == 12


def test_waiting_time_that_a_server_asks_for_is_kept():
    times = []

    def answer(body):
        times.append(time.monotonic())
        return (429, "slow down", {"Retry-After": "1"}) if len(times) == 1 else "no"

    with serving(answer) as (url, _):
        load_judge("harmbench", base_url=url, model="judge")(replies(1))
    assert 0.95 <= times[1] - times[0] < 3


def test_what_does_not_pass_ends_the_run_and_keeps_what_was_answered(tmp_path):
    def answer(body):
        return (503, "busy") if "2 eggs" in text_of(body) else "no"

    with serving(answer) as (url, requests):
        answers = Answers(tmp_path / "answers")
        judge = load_judge("harmbench", answers=answers, base_url=url, model="judge", retries=2, concurrency=1)
        with pytest.raises(JudgeError) as error:
            judge(replies(4))
        assert "in 3 tries" in message_of(error)
        assert len(requests) == 5  # two answered, one tried three times, the last not asked
    with serving(lambda body: "no") as (url, requests):
        again = load_judge("harmbench", answers=Answers(tmp_path / "answers"), base_url=url, model="judge")
        again.respondent.identity = judge.respondent.identity  # the same server, on another port
        assert len(again(replies(4))) == 4
        assert len(requests) == 2


def test_a_question_that_a_server_refuses_is_unjudged_and_all_refused_is_a_mistake():
    with serving(lambda body: (400, "filtered") if "1 eggs" in text_of(body) else "no") as (url, requests):
        judge = load_judge("harmbench", base_url=url, model="judge")
        harmful = [verdict.harmful for verdict in judge(replies(3))]
        assert harmful == [False, None, False]
        assert len(requests) == 3
    with serving(lambda body: (400, "max_tokens is not supported")) as (url, _):
        judge = load_judge("harmbench", base_url=url, model="judge")
        with pytest.raises(JudgeError) as error:
            judge(replies(3))
        assert "all 3 questions" in message_of(error)
        assert "max_tokens is not supported" in message_of(error)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"message": {}}]}, [], None])
def test_an_answer_in_no_form_we_know_is_a_mistake_after_some_tries(body, monkeypatch):
    with serving(lambda body: "no") as (url, _):
        monkeypatch.setattr("sa_lightning.evaluation.judges.endpoint.Endpoint._parsed", lambda *_: body)
        judge = load_judge("harmbench", base_url=url, model="judge", retries=1)
        with pytest.raises(JudgeError) as error:
            judge(replies(1))
        assert "2 tries" in message_of(error)


def test_an_empty_answer_is_unjudged():
    with serving(lambda body: "") as (url, _):
        assert load_judge("xstest", base_url=url, model="judge")(replies(1)) == [Verdict(Outcome.UNJUDGED)]


def test_an_absent_server_is_named_before_anything_is_asked():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(JudgeError) as error:
        load_judge("harmbench", base_url=f"http://me:{KEY}@127.0.0.1:{port}/v1", model="judge")
    text = message_of(error)
    assert f"http://127.0.0.1:{port}/v1" in text
    assert "Connection refused" in text


def test_a_server_without_a_list_of_models_will_do():
    with serving(lambda body: "no", models_status=404) as (url, _):
        assert load_judge("harmbench", base_url=url, model="judge")(replies(1)) == [Verdict(Outcome.REFUSED, False)]


def test_no_more_requests_are_under_way_than_allowed():
    under_way, most, lock = [0], [0], threading.Lock()

    def answer(body):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        with lock:
            under_way[0] -= 1
        return "no"

    with serving(answer) as (url, requests):
        load_judge("harmbench", base_url=url, model="judge", concurrency=3)(replies(15))
    assert (len(requests), most[0]) == (15, 3)


def test_a_request_that_takes_too_long_is_tried_again():
    slow = [True]

    def answer(body):
        if slow.pop() if slow else False:
            time.sleep(1.0)
        return "no"

    with serving(answer) as (url, _):
        judge = load_judge("harmbench", base_url=url, model="judge", timeout=0.3)
        assert judge(replies(1)) == [Verdict(Outcome.REFUSED, False)]


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"base_url": "localhost:8000", "model": "m"}, "'localhost:8000'"),
        ({"base_url": "http://[bad/v1", "model": "m"}, "'http://[bad/v1'"),
        ({"base_url": "http://x:port/v1", "model": "m"}, "'http://x:port/v1'"),
        ({"base_url": "http://x/v1"}, "endpoint.model"),
        ({"base_url": "http://x/v1", "model": "m", "concurrency": 0}, "at least 1, but is 0"),
        ({"base_url": "http://x/v1", "model": "m", "retries": -1}, "at least 0, but is -1"),
        ({"base_url": "http://x/v1", "model": "m", "timeout": float("nan")}, "nan"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, fact):
    with pytest.raises(SettingError) as error:
        load_judge("harmbench", **settings)
    assert fact in message_of(error)
