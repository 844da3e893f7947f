"""S1, S10, S13: no key reaches disk, the store is private, and nothing is called but the model's address."""

from __future__ import annotations

import gzip
import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from pytest_llmexp.localmodel import Answer, LocalModelServer
from tests.conftest import Suite

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
PASSWORD = 'pass"word\\of-the-database'


def test_keys_reach_no_file_and_no_output(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("SHOP_DB_PASSWORD", PASSWORD)
    suite.write("""
        import os, pytest
        KEY, PASSWORD = os.environ["OPENAI_API_KEY"], os.environ["SHOP_DB_PASSWORD"]
        def lookup(password: str) -> str:
            '''Look something up.'''
            return f"used {password}"
        @pytest.mark.experiment(n=1, tags={"note": KEY})
        @pytest.mark.parametrize("secret", [PASSWORD], ids=["secret"])
        def test_x(bot, experiment_run, record_metric, secret):
            print("printed", KEY, PASSWORD)
            experiment_run.record(input={"password": PASSWORD}, output=[KEY])
            bot(f"Never tell {KEY}")(f"My password is {PASSWORD}")
            bot("You.", tools=[lookup])("look up")
            record_metric("x", 1)
            raise ValueError(f"connecting with {PASSWORD} failed, Bearer {KEY}")
        @pytest.mark.experiment(n=1)
        def test_refused(bot): bot("You.")("unauthorized")
    """)

    def answer(request: object) -> Answer:
        body = str(getattr(request, "body", ""))
        if "unauthorized" in body:
            return Answer(status=401, body=f'{{"error": {{"message": "Incorrect API key: {KEY}"}}}}'.encode())
        return Answer(text=f"I will not tell {KEY} nor {PASSWORD}")

    with LocalModelServer(script=answer) as server:
        result = suite.run(
            f"--experiment-base-url={server.base_url}",
            "--experiment-model=m",
            "--junitxml=junit.xml",
            "-rA",
            "-vv",
            new_process=True,
        )
        assert any(
            KEY in str(request.body) for request in server.requests
        )  # it was sent: what is kept out of is the record
    result.assert_outcomes(failed=2)
    output = result.stdout.str() + result.stderr.str()
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    for secret in (KEY, PASSWORD, escaped):
        assert secret not in output
        for path in Path(suite.path).iterdir():
            if path.is_file() and path.suffix != ".py":
                assert secret.encode() not in path.read_bytes(), path
    store = suite.store()
    (told,) = [call for call in store.calls(store.experiments()[0].id) if "[redacted" in str(call.request)]
    assert "[redacted:OPENAI_API_KEY]" in told.request["messages"][0]["content"]
    assert "[redacted:SHOP_DB_PASSWORD]" in told.request["messages"][1]["content"]


def test_every_file_is_private_whatever_the_umask(suite: Suite) -> None:
    suite.write("""
        import pathlib, pytest
        @pytest.mark.experiment(n=1)
        def test_x(bot):
            bot("You.")("Hello")
            for path in pathlib.Path().glob("message_log.db*"):
                assert path.stat().st_mode & 0o777 == 0o600, path
    """)
    before = os.umask(0)
    try:
        suite.run().assert_outcomes(passed=1)
    finally:
        os.umask(before)
    files = list(suite.path.glob("message_log.db*"))
    assert files
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_nothing_is_connected_to_but_the_model(suite: Suite) -> None:
    suite.write(
        """
        import socket
        hosts = set()
        connect, resolve = socket.socket.connect, socket.getaddrinfo
        def noted(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6): hosts.add(address[0])
            return connect(self, address)
        def resolved(host, *arguments, **options):
            hosts.add(host)
            return resolve(host, *arguments, **options)
        socket.socket.connect, socket.getaddrinfo = noted, resolved
        def pytest_unconfigure():
            with open("hosts.txt", "w") as file: file.write(" ".join(sorted(map(str, hosts))))
        """,
        "conftest.py",
    )
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2, gates=["sum(cost_usd) <= 1"])
        def test_x(bot, record_metric):
            bot("You.")("Hello")
            record_metric("x", 1.5)
    """)
    assert suite.run(new_process=True).ret == 0
    assert (suite.path / "hosts.txt").read_text() == "127.0.0.1"


def test_a_key_that_is_streamed_in_pieces_is_in_no_file(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    pieces = ["I tell ", KEY[:15], KEY[15:30], KEY[30:], " to you"]
    chunk = '{"id":"1","object":"chat.completion.chunk","created":0,"model":"m","choices":[{"index":0,"delta":%s}]}'
    deltas = [json.dumps({"content": piece}) for piece in pieces]
    events = [f"data: {chunk % delta}\n\n" for delta in deltas] + ["data: [DONE]\n\n"]
    streamed = Answer(body="".join(events).encode(), headers={"Content-Type": "text/event-stream"})
    suite.write("""
        import os, pytest
        from pytest_llmexp import step
        @pytest.mark.experiment(n=1)
        def test_x(llm_client):
            asked = [{"role": "user", "content": "tell"}]
            with step("ask", key=os.environ["OPENAI_API_KEY"]) as asking:
                chunks = llm_client.chat.completions.create(model="m", messages=asked, stream=True)
                asking.output = "".join(chunk.choices[0].delta.content for chunk in chunks)
            assert asking.output == "I tell " + os.environ["OPENAI_API_KEY"] + " to you"
    """)
    with LocalModelServer(script=lambda _: streamed) as server:
        suite.run(f"--experiment-base-url={server.base_url}", new_process=True).assert_outcomes(passed=1)
    store = suite.store()
    (call,) = store.calls(store.experiments()[0].id)
    assert (call.status, len(call.stream["events"])) == ("ok", 2)
    monkeypatch.chdir(suite.path)
    exported = CliRunner().invoke(main, ["export", "replay", store.experiments()[0].id])
    assert exported.exit_code == 0
    written = [gzip.decompress((suite.path / "replay.jsonl.gz").read_bytes())]
    written += [path.read_bytes() for path in suite.path.glob("message_log.db*")]
    for content in written:
        for part in (KEY[:15], KEY[15:30], KEY[30:]):
            assert part.encode() not in content
