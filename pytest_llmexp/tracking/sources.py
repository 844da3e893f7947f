"""Where calls go when a bot does not say: the model, its address and key. Knows core only, imports no client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pytest_llmexp.core.errors import ModelError

LOCAL_MODEL = "local-sampler"
LOCAL_LABEL = "local-sampler (not an LLM)"
ADDRESS = "an address such as http://127.0.0.1:11434/v1"  # what a base URL is, for error messages
_HINT = (
    "set OPENAI_API_KEY, or pass --experiment-base-url=URL (OPENAI_BASE_URL) of a server that needs none, "
    f"or choose the built-in stand-in with --experiment-model={LOCAL_MODEL}"
)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The default model and where to reach it; `local` means the built-in server, which is not an LLM."""

    model: str | None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    local: bool = False
    label: str = ""

    def model_for(self, named: str | None) -> str:
        """Return the model to ask for: the one the bot names, else the default.

        Raises ModelError if there is none, or if the named one has neither a key nor an address.
        """
        if named in (None, LOCAL_MODEL) and self.local:
            return LOCAL_MODEL
        if named is None and self.model is None:
            raise ModelError(
                "no model: the bot names none and there is no default; pass model=, or --experiment-model=NAME "
                "(LLMEXP_MODEL, ini experiment_model)"
            )
        if self.local:
            raise ModelError(f"model {named!r} was asked for, but there is neither a key nor a base URL: {_HINT}")
        return named or str(self.model)


def is_address(text: str) -> bool:
    """Say whether a base URL names a host to speak HTTP with."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool((parts.hostname or "").strip()) and parts.port != 0
    except ValueError:  # of brackets, or a port that is none
        return False


def check_address(given: str | None, where: str) -> None:
    """Raise ModelError for a base URL that is no address; None and empty text count as not given."""
    if given and not is_address(str(given)):
        raise ModelError(f"{where} is {str(given)!r}; it is {ADDRESS}")


def resolve_source(
    model: str | None, base_url: str | None, environ: Mapping[str, str], *, answered: bool = False
) -> ModelSource:
    """Decide where calls go.

    `model` and `base_url` are the options; `environ` may hold OPENAI_API_KEY and OPENAI_BASE_URL. The
    built-in sampler is used if it is named, or if there is no model, no base URL and no key. A named model
    with neither a key nor a base URL is a ModelError: it is never replaced. So is an OPENAI_BASE_URL that is no
    address. `answered` says that recorded answers are served and no call is made: then no key is needed, and the
    built-in sampler is no server but a name.
    """
    api_key = environ.get("OPENAI_API_KEY") or None
    if not base_url:
        check_address(environ.get("OPENAI_BASE_URL"), "OPENAI_BASE_URL")
    address = base_url or environ.get("OPENAI_BASE_URL") or None
    if answered:
        label = f"{model or 'named by each bot'} (recorded answers only)"
        return ModelSource(model or LOCAL_MODEL, address, api_key or "not-needed", label=label)
    if model == LOCAL_MODEL and base_url is None:
        return ModelSource(LOCAL_MODEL, local=True, label=f"{LOCAL_LABEL}, chosen")
    if model is None and api_key is None and address is None:
        return ModelSource(LOCAL_MODEL, local=True, label=f"{LOCAL_LABEL}: no model or API key configured")
    if api_key is None and address is None:
        raise ModelError(f"model {model!r} has neither a key nor a base URL: {_HINT}")
    label = (model or "named by each bot") + (f" at {address}" if address else "")
    return ModelSource(model, address, api_key or "not-needed", label=label)
