"""`workflow`: the command line. Data goes to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from ops import audit, commands, demo, keys, platform_commands, projections, setting_up
from ops.client import CommandFailed, Exit
from ops.errors import NoPlatform, StartInterrupted
from ops.options import Nouns
from schemas.errors import KeyUnknown, WorkflowError

EPILOG: Final = (
    "Exit codes: 0 good, 1 ended badly (a run FAILED or CANCELLED, tables and log differ), 2 usage or a bad setting, "
    "3 not found, 4 not allowed, 5 server away or too busy, 6 waited too long, 130 interrupted."
)


@click.group(cls=Nouns, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def workflow() -> None:
    """Workflows whose only truth is a log.

    \b
    workflow up                       a whole platform, here
    workflow trigger hello --watch    start a run and see it end
    """


for command in (
    platform_commands.up,
    platform_commands.ps,
    demo.demo,
    platform_commands.api,
    platform_commands.worker,
    platform_commands.projector,
    setting_up.migrate,
    setting_up.grants,
    audit.verify,
    projections.rebuild,
    projections.projections,
    commands.workflows,
    commands.trigger,
    commands.runs,
    keys.keys,
):
    workflow.add_command(command)


def main() -> None:
    """The entry point: every failure is one line and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run the command in `args`; its exit code."""
    try:
        code = workflow.main(args, prog_name="workflow", standalone_mode=False)
    except SystemExit as end:
        code = end.code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = Exit.INTERRUPTED
    except BrokenPipeError:  # `workflow runs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.GOOD
    except (CommandFailed, WorkflowError) as failure:
        click.echo(f"workflow: {failure}", err=True)
        code = _code_of(failure)
    return code if isinstance(code, int) else Exit.GOOD


def _code_of(failure: CommandFailed | WorkflowError) -> Exit:
    match failure:
        case CommandFailed():
            return failure.code
        case StartInterrupted():
            return Exit.INTERRUPTED
        case NoPlatform():
            return Exit.SERVER_AWAY
        case KeyUnknown():
            return Exit.NOT_FOUND
        case _:
            return Exit.USAGE


if __name__ == "__main__":
    main()
