"""What commands have in common: options, names and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of an embedded platform (also WORKFLOW_HOME). Left out: WORKFLOW_URL, KAFKA_* and POSTGRES_*, else .workflow.",
)

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="JSON is the API's body, unchanged.",
)

data_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to say it."
)

_ALIASES: Final = {"ls": "list", "get": "show", "workflow": "workflows", "run": "runs", "key": "keys"}


class Nouns(click.Group):
    """A group that takes `ls` for `list`, `get` for `show`, and nouns in the singular."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or super().get_command(ctx, _ALIASES.get(name, name))
