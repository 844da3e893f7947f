"""Every error the package raises on purpose. A message says what was given, what is allowed and what to do.

LlmexpError
├── ConfigurationError      an option, mark or environment that cannot work; raised before any call is made
│   ├── GateSyntaxError     a gate that does not parse, or names no known statistic
│   ├── PromptError         a @prompt function that cannot be a template, or variables that do not fit it
│   └── ModelError          no model, no key, or no address to send a call to
├── MetricError             a value that is no finite scalar, or a second value under one name
├── AnswerError             the model answered, but not with what was asked for
│   ├── RefusalError        it refused
│   ├── TruncatedError      it was cut off by a token limit
│   ├── StructureError      the answer does not fit the output model, after every repair
│   └── ToolLoopError       the tool loop did not end
├── RunTimeoutError         a run took longer than its timeout
├── SpendingLimitError      an `Experiment` block reached its limit of cost or tokens
├── ProviderDownError       the provider of an `Experiment` block's model gives no answers
├── RecordingError          a record did not reach the store
└── StoreError              the store cannot be used
    ├── UnwritableStoreError
    ├── ForeignStoreError   the file belongs to another program
    ├── CorruptStoreError
    ├── NewerStoreError     written by a newer version of this package
    ├── UnknownExperimentError
    └── UnknownRunError
"""


class LlmexpError(Exception):
    """The root of every error of this package."""


class ConfigurationError(LlmexpError):
    """An option, mark or environment that cannot work."""


class GateSyntaxError(ConfigurationError):
    """A gate that does not parse, or names no known statistic."""


class PromptError(ConfigurationError):
    """A prompt function that cannot be a template, or variables that do not fit it."""


class ModelError(ConfigurationError):
    """No model, no key, or no address to send a call to."""


class MetricError(LlmexpError):
    """A value that is no finite scalar, or a second value under one name."""


class AnswerError(LlmexpError):
    """The model answered, but not with what was asked for."""


class RefusalError(AnswerError):
    """The model refused to answer."""


class TruncatedError(AnswerError):
    """The answer was cut off by a token limit."""


class StructureError(AnswerError):
    """The answer does not fit the output model, after every repair."""


class ToolLoopError(AnswerError):
    """The model kept calling tools."""


class RunTimeoutError(LlmexpError):
    """A run took longer than its timeout."""


class SpendingLimitError(LlmexpError):
    """An experiment's limit of cost or tokens is reached, so that not every run was made."""


class ProviderDownError(LlmexpError):
    """The provider of a model failed so many runs in a row that not every run was made."""


class RecordingError(LlmexpError):
    """A record did not reach the store."""


class StoreError(LlmexpError):
    """The store cannot be used."""


class UnwritableStoreError(StoreError):
    """The file or folder of the store cannot be written."""


class ForeignStoreError(StoreError):
    """The file belongs to another program."""


class CorruptStoreError(StoreError):
    """The file is damaged, or is no database at all."""


class NewerStoreError(StoreError):
    """The store was written by a newer version of this package."""


class UnknownExperimentError(StoreError):
    """No stored experiment answers to this name or id."""


class UnknownRunError(StoreError):
    """No run of the experiment, or more than one, answers to this id or name."""
