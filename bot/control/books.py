"""What `bot reconcile` found, as a record and as a table."""

from __future__ import annotations

import msgspec

from bot.control.protocol import DifferenceRow


class BooksReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. `is_equal` only when every wallet was compared and nothing differs."""

    source: str
    """`daemon`, or the file name of the journal."""
    is_equal: bool
    compared: tuple[str, ...]
    """The wallets that could be compared."""
    differences: tuple[DifferenceRow, ...]
    adopted: int
    """Differences that were taken over into the journal by this command."""
    note: str = ""


def report_lines(report: BooksReport) -> list[str]:
    """Return the report as a table."""
    lines: list[str] = []
    if report.differences:
        lines.append(f"{'wallet':<9}{'what':<26}{'exchange':>22}{'ours':>22}  {'unit':<10}action")
        for row in report.differences:
            both = f"{row.exchange:>22f}{row.ours:>22f}"
            lines.append(f"{row.wallet:<9}{f'{row.kind} {row.name}':<26}{both}  {row.unit:<10}{row.action}")
    if report.adopted:
        lines.append(f"{report.adopted} differences were adopted")
    wallets = " and ".join(report.compared)
    if report.compared:
        lines.append(f"{wallets}: {'the books are equal' if not report.differences else 'the books differ'}")
    lines += [report.note] if report.note else []
    return lines
