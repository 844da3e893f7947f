"""Floor 5: the `llmexp` command. One file per command, imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from pytest_llmexp.core.errors import LlmexpError

_COMMANDS = {
    "list": "List the experiments of a store, newest first",
    "show": "Print the summary of an experiment",
    "export": "Write recorded answers to a file that can be committed and replayed",
    "doctor": "Check a store's file, or save what is readable of a damaged one",
    "serve-local": "Serve the built-in stand-in for a model (not an LLM) over HTTP",
}


class _Commands(click.Group):
    """Finds `llmexp NAME` in the module of that name, and turns our errors into one line and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"{__name__}.{cmd_name.replace('-', '_')}_command")  # start-up cost
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LlmexpError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-llmexp", prog_name="llmexp")
def main() -> None:
    """Look at the experiments that pytest recorded.

    Every command that reads a store takes --db PATH; without it the store is the environment variable
    LLMEXP_DB, else message_log.db in the current folder.
    """
