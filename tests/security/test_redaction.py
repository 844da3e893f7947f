"""No secret gets through, nothing else is touched, and no text makes it slow."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.ids import new_id, tagged_hash
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.store import Writer, open_store
from pytest_llmexp.store.codec import encode_json
from tests.store.examples import call, experiment, run

SECRET = 'Zw9"\\/\n\tkäse+%s'
ENVIRON = {
    "OPENAI_API_KEY": "correct-horse-battery",
    "db_password": SECRET,
    "GITHUB_TOKEN": "token-token-token",
    "SENTRY_DSN": "https://abc@sentry.example/1",
    "CLIENT_SECRET": "correct-horse-battery-staple",  # contains another one
    "PIN_KEY": "1234567",  # too short to be told from ordinary text
    "KEYBOARD": "querty-keyboard",
    "HOME": "/home/somebody",
}
redact = Redactor(ENVIRON)

KEYS = [
    "sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL",
    "sk-proj-Ab1_Cd2-Ef3gHi4jKl5mNo6pQr7sTu8vWx9yZ0",
    "sk-ant-api03-Ab1_Cd2-Ef3gHi4jKl5mNo6pQr7sTu8vWx9yZ0-AA",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "ghs_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0abcdefghijkl_0123456789abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopqrstu",
    "xoxb-123456789012-abcdefABCDEF",
    "xoxp-123456789012-abcdefABCDEF",
    "hf_abcdefghijklmnopqrstuvwxyz01234567",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
]


def test_values_of_telling_variables_are_named() -> None:
    assert redact("key=correct-horse-battery;") == "key=[redacted:OPENAI_API_KEY];"
    assert redact("correct-horse-battery-staple") == "[redacted:CLIENT_SECRET]"
    assert redact(f"a{SECRET}b") == "a[redacted:db_password]b"
    assert redact("https://abc@sentry.example/1") == "[redacted:SENTRY_DSN]"
    assert redact("1234567 querty-keyboard /home/somebody") == "1234567 querty-keyboard /home/somebody"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "around", ["{}", "Incorrect API key: {}.", "a\n{}\nb", '{{"k": "{}"}}', "k={}&x=1", "'{}'", "\x1b{}"]
)
def test_keys_of_known_form_are_replaced(key: str, around: str) -> None:
    assert redact(around.format(key)) == around.format("[redacted:key]")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc123def456", "Authorization: Bearer [redacted:key]"),
        ("authorization: bearer  a1b2c3d4e5/+=", "authorization: bearer  [redacted:key]"),
        ("postgresql://me:hunter2@db:5432/x", "postgresql://me:[redacted:key]@db:5432/x"),
        ("redis://:p%40ss@host", "redis://:[redacted:key]@host"),
    ],
)
def test_what_stands_around_a_secret_is_kept(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "The bearer responsibilities of sk-learn-compatible-estimators are risk-averse-and-task-oriented-0123456789.",
        "See http://localhost:8080/v1, or mail me@example.org; https://example.org:443/a@b?c=d",
        "hf_transformers_are_fine, ghp_short, AKIA, AIzawa, xoxo-hugs-and-kisses-to-you, eyJ.eyJ.eyJ",
        "disk-usage-statistics-20260131-full ask-me-anything-about-0123456789-things",
        tagged_hash("prompt", "text"),
        " ".join(new_id(prefix) for prefix in ("exp", "run", "call") for _ in range(100)),
        "/usr/lib/python3.11/site-packages/openai/_base_client.py:1037: in _request",
        "Le café coûte 3 €. 寿司 🍣 \ud800 \x00 \x1b[31m",
    ],
    ids=["prose", "addresses", "prefixes", "slugs", "hash", "ids", "path", "unicode"],  # the same in every worker
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) is text


@given(st.text())
def test_without_a_secret_nothing_changes_by_much(text: str) -> None:
    assert Redactor({})(text) == text or "://" in text


values = st.recursive(
    st.sampled_from([SECRET, "correct-horse-battery", "token-token-token", "plain", 'q"uote\\', "line\nbreak", *KEYS]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([SECRET, "a", KEYS[0], "\x1bb"]), inner, max_size=2),
        st.tuples(inner, st.sampled_from(["x\n", "", "\t", "\x00", "("])).map(
            lambda pair: pair[1] + pair[0] if isinstance(pair[0], str) else pair[0]
        ),
    ),
    max_leaves=6,
)


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in _strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in _strings(each)]
    return [value]


@given(values)
def test_json_stays_json_and_loses_every_secret(value: Any) -> None:
    kept = json.loads(encode_json(value, redact))
    for text in _strings(kept):
        assert not any(secret in text for secret in (SECRET, "correct-horse-battery", "token-token-token", *KEYS))
    assert [redact(text) for text in _strings(value)] == _strings(kept) or isinstance(value, dict)


ADVERSARIAL = [
    "eyJ",
    "-eyJ",
    "eyJaaaaaaaa.",
    "eyJaaaaaaaa.eyJaaaa.",
    "-eyJ" * 128 + ".eyJ" + "a" * 8000 + " ",
    "sk-",
    "sk-a",
    " sk-" + "a" * 300,
    "\\nsk-",
    "Bearer ",
    "Bearer  a",
    "Bearer " + "a" * 300 + " ",
    "://",
    "://a:",
    "://" + "a" * 128 + ":" + "b" * 256,
    "hf_aaaaaaaaaaaaaaaaaaa ",
    " hf_" + "a" * 300,
    "ghp_aaaaaaaaaaaaaaaaaaa-",
    "github_pat_",
    "AIza",
    "AKIA",
    "xoxb-",
    "correct-horse-batter",
    "a",
]


@pytest.mark.parametrize("part", ADVERSARIAL, ids=range(len(ADVERSARIAL)))
def test_five_megabytes_of_anything_take_seconds(part: str) -> None:
    text = part * (5_000_000 // len(part))
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 20  # quadratic work would take hours


def test_no_secret_reaches_any_file_of_the_store(tmp_path: Path) -> None:
    secrets = ["correct-horse-battery", "token-token-token", *KEYS]
    store = open_store(tmp_path / "m.db", create=True, redact=redact)
    told = " ".join(secrets)
    store.write([experiment(command=told, metadata={told: [told]}), run(error=told, params={"k": told}, input=told)])
    writer = Writer(lambda: open_store(tmp_path / "m.db", redact=redact))
    writer.put(call(request={"messages": [{"content": told}]}, response=[told], error=told, endpoint=told)).result(30)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert writer.close(30)
    store.close()
    files["closed"] = (tmp_path / "m.db").read_bytes()
    assert {"m.db-wal", "m.db", "closed"} <= files.keys()
    for content in files.values():
        assert not [secret for secret in secrets if secret.encode() in content]
    assert b"[redacted:key]" in files["closed"]
