"""Gates: demands on the statistics of a metric, such as `mean(name_length) <= 40`, and what the evidence says."""

from pytest_llmexp.core.gates.judge import judge
from pytest_llmexp.core.gates.language import Condition, Gate, parse_gate

__all__ = ["Condition", "Gate", "judge", "parse_gate"]
