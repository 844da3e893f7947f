"""What an error looks like in each family of APIs.

Standard library only. One function per family; each takes a `Problem` and returns the body of the response.
"""

from typing import NamedTuple

from pytest_llmexp.localmodel.exchange import JsonObject

_OPENAI = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}
_ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GOOGLE = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_BEDROCK = {
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


class Problem(NamedTuple):
    """What went wrong; `param` and `code` are known to OpenAI's errors only."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None

    def kind(self, kinds: dict[int, str], refused: str, broken: str) -> str:
        """Return the name of the status: one of `kinds`, else that of a refused request or of a broken server."""
        return kinds.get(self.status, refused if self.status < 500 else broken)


def openai(problem: Problem) -> JsonObject:
    """Return an error of https://platform.openai.com/docs/guides/error-codes."""
    kind = problem.kind(_OPENAI, "invalid_request_error", "server_error")
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


def anthropic(problem: Problem) -> JsonObject:
    """Return an error of https://docs.claude.com/en/api/errors."""
    kind = problem.kind(_ANTHROPIC, "invalid_request_error", "api_error")
    return {"type": "error", "error": {"type": kind, "message": problem.message}}


def google(problem: Problem) -> JsonObject:
    """Return an error of https://cloud.google.com/apis/design/errors."""
    kind = problem.kind(_GOOGLE, "INVALID_ARGUMENT", "INTERNAL")
    return {"error": {"code": problem.status, "message": problem.message, "status": kind}}


def ollama(problem: Problem) -> JsonObject:
    """Return an error of https://docs.ollama.com/api/errors."""
    return {"error": problem.message}


def bedrock(problem: Problem) -> JsonObject:
    """Return an error of Amazon Bedrock; `__type` is where clients look for its name without a header.

    See https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization.
    """
    kind = problem.kind(_BEDROCK, "ValidationException", "InternalServerException")
    return {"__type": kind, "message": problem.message}
