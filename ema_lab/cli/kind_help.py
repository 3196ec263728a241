"""Help of `new KIND`: what a file of that kind is, what uses it, and only the options that it has."""

from typing import Any

from typer.core import TyperCommand

from ema_lab.workflow.define.template import TEMPLATES
from ema_lab.workflow.define.template_help import HELP

KIND = "ema_lab.kind"  # where a call keeps the kind that its arguments name
OF_DATASETS = {"source", "image_size", "sample", "loader_workers", "data"}  # parameters of `--from`


class KindHelp(TyperCommand):
    """Command whose first argument names a kind of file, and whose help then tells of that kind."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note the kind before the option `--help` ends the parsing."""
        ctx.meta[KIND] = next((word for word in args if word in TEMPLATES), None)
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the text of the kind, or of the command."""
        kind = ctx.meta.get(KIND)
        if kind is None:
            super().format_help_text(ctx, formatter)
            return
        template = TEMPLATES[kind]
        example = template.example
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(HELP[kind])
            formatter.write_paragraph()
            formatter.write_text(f"Example: ema-lab new {kind} {example}")
            formatter.write_paragraph()
            formatter.write_text(f"It is used by: {template.use_of(example)}")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options that files of the kind have."""
        params, kind = self.params, ctx.meta.get(KIND)
        if kind not in (None, "dataset"):
            self.params = [param for param in params if param.name not in OF_DATASETS]
        try:
            super().format_options(ctx, formatter)
        finally:
            self.params = params
