"""What ``orchestrator --help`` prints: every command on one screen."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

WIDEST = 80


class Overview(TyperGroup):
    """The group of all commands. Its help has a line for each, without the frames that take a screen more."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        from orchestrator.cli.console import out

        console = out()
        console.width = min(console.width, WIDEST)
        console.print(
            Padding(Text(f"Usage: {ctx.command_path} COMMAND …     COMMAND -h explains one"), (0, 1))
        )
        console.print(Padding(Text(self.help or ""), (0, 1, 1, 1)))
        commands: list[Any] = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        shown = [command for command in commands if command is not None and not command.hidden]
        longest = max(len(command.name or "") for command in shown)
        for panel in dict.fromkeys(command.rich_help_panel for command in shown):
            console.print(Padding(Text(str(panel), "bold"), (0, 1)))
            table = Table.grid(padding=(0, 2))
            table.add_column(style="bold cyan", no_wrap=True, width=longest)
            table.add_column()
            for command in shown:
                if command.rich_help_panel == panel:
                    table.add_row(command.name, (command.help or "").partition("\n\n")[0])
            console.print(Padding(table, (0, 0, 0, 3)))
        console.print()
        for line in (self.epilog or "").split("\n\n"):
            console.print(Padding(Text(line), (0, 1)))
