"""A document in plain words: what an operator reads before he trusts it with money."""

from __future__ import annotations

from collections.abc import Iterator

from bot.core.durations import duration_text
from bot.strategies.rules.definition import RuleDefinition
from bot.strategies.rules.document import Distance, Document, Expression, Size

_NONE = "(nothing)"


def describe(document: Document) -> str:
    """Return a few lines about a document that `check_document` has passed."""
    definition = RuleDefinition(document)
    return "\n".join(_lines(document, definition))


def _lines(document: Document, definition: RuleDefinition) -> Iterator[str]:
    yield document.name
    if document.description:
        yield document.description.strip()
    length = duration_text(document.timeframe_ns)
    bars = definition.lookback_bars
    span = duration_text(bars * document.timeframe_ns) if bars else "0s"
    yield f"Decides at the close of each {length} bar; needs {bars} bars ({span}) before."
    if definition.watches:
        yield f"Also looks at {', '.join(definition.watches)}."
    longer = {frame.timeframe_ns for frame in definition.plan.frames} - {document.timeframe_ns}
    if longer:
        yield f"Also looks at bars of {', '.join(duration_text(each) for each in sorted(longer))}."
    for name, expression in document.lets.items():
        yield f"{name} is {expression.text}."
    for side in document.sides:
        if side in document.entries:
            yield f"Goes {side} when {document.entries[side].text}."
        if side in document.exits:
            yield f"Leaves a {side} position when {document.exits[side].text}."
    yield _size(document.size)
    yield _order(document)
    yield from _guards(document)
    for param in document.params:
        step = f" in steps of {param.step:g}" if param.step else ""
        yield f"Parameter {param.name} = {param.default:g}; {param.low:g} to {param.high:g}{step}."
    for expression in document.require:
        yield f"Requires {expression.text}."


def _size(size: Size | None) -> str:
    if size is None:
        return "Uses all of the equity."
    amount = _text(size.amount)
    cap = _text(size.cap) if size.cap else "100"
    match size.kind:
        case "fixed":
            text = {"quote": f"{amount} of quote currency", "lots": f"{amount} lots"}.get(size.unit, f"{amount} coins")
        case "percent":
            text = f"{amount} % of equity"
        case "volatility":
            text = (
                f"as much as makes {amount} % volatility a year, measured over {_text(size.window)} bars, "
                f"at most {cap} % of equity"
            )
        case "kelly":
            text = f"{amount} of Kelly's share, measured over {_text(size.window)} bars, at most {cap} % of equity"
    return f"Uses {text}{', adjusted with every bar' if size.is_rebalanced else ''}."


def _order(document: Document) -> str:
    order = document.order
    if not order.is_limit:
        return "Enters at the market."
    where = f"{_distance(order.offset)} better than the close" if order.offset else "at the close"
    bars = _text(order.patience) if order.patience else "1"
    return f"Enters with a limit order, {where}, for {bars} bars."


def _guards(document: Document) -> Iterator[str]:
    if document.stop:
        yield f"Stops a loss {_distance(document.stop)} from the entry."
    if document.target:
        yield f"Takes a profit {_distance(document.target)} from the entry."
    if document.trail:
        yield f"Trails its stop {_distance(document.trail)} behind the best price."
    if document.break_even:
        yield f"Moves its stop to the entry after a gain of {_distance(document.break_even)}."
    if document.max_bars:
        yield f"Leaves after {_text(document.max_bars)} bars."
    if document.cool_down:
        yield f"Rests for {_text(document.cool_down)} bars after a position."


def _distance(distance: Distance) -> str:
    amount = _text(distance.amount)
    match distance.unit:
        case "percent":
            return f"{amount} %"
        case "ticks":
            return f"{amount} ticks"
        case "atr":
            return f"{amount} x the average true range of {_text(distance.window) if distance.window else '14'} bars"
        case "price":
            return f"{amount} of price"


def _text(expression: Expression | None) -> str:
    return _NONE if expression is None else expression.text
