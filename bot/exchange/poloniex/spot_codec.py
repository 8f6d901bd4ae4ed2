"""Reading Poloniex's spot REST answers and writing its requests. Pure: any bytes give a typed value or `BadReply`.

Orders are checked here against their market before they become bytes: the exchange rounds nothing, and reads an
order that lacks its type as a market order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from bot.core.instrument import NUMBER_LENGTH_MAX, Side
from bot.core.text import safe_text
from bot.errors import BadReply, NotListed, OrderRefusedHere
from bot.exchange.poloniex import spot_wire as wire
from bot.exchange.poloniex.signing import encoded, query_text
from bot.exchange.poloniex.wire import ErrorReply

TEXT_LENGTH_MAX: Final = 200
BATCH_MAX: Final = 20
ORDER_BOOK_LIMITS: Final = (5, 10, 20, 50, 100, 150)
KILL_SWITCH_S_MIN: Final = 10
KILL_SWITCH_S_MAX: Final = 600
KILL_SWITCH_OFF: Final = "-1"
UNREADABLE: Final = (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError)
"""What msgspec and our own checks raise for bytes that are no JSON of the right shape."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXACT: Final = Context(prec=4 * wire.DIGITS_MAX)

T = TypeVar("T")


# --- reading


def decode(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return `body` as a `kind`: a record of `spot_wire`, or a tuple or dict of them.

    Raises:
        BadReply: `body` is not JSON, or not of that shape.

    """
    try:
        return _decoder(kind).decode(body)
    except UNREADABLE as error:
        raise BadReply(safe_text(str(error), TEXT_LENGTH_MAX), bytes(body)) from error


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    # Not strict: integers and booleans may come as text. A number is money, so it never becomes a float.
    return msgspec.json.Decoder(kind, strict=False, dec_hook=_hook)


def _hook(kind: type, value: Any) -> wire.ExchangeId:
    if kind is wire.ExchangeId and type(value) in {str, int}:
        text = str(value)
        if len(text) <= wire.ID_LENGTH_MAX:
            return wire.ExchangeId(text)
    raise ValueError("not an id")


def decode_one(body: bytes, kind: type[T]) -> T:
    """Return the only element of an array; an object without an array around it is taken too."""
    if body.lstrip()[:1] != b"[":
        return decode(body, kind)
    rows = decode(body, tuple[msgspec.Raw, ...])
    if len(rows) != 1:
        raise BadReply(f"{len(rows)} rows where one was expected", body)
    return decode(rows[0], kind)


def decode_markets(body: bytes) -> dict[str, wire.SpotMarket]:
    """Return the markets of GET /markets by symbol; one that cannot be read is left out, as if not listed.

    Raises:
        BadReply: not a list, or not one readable market in it.

    """
    rows = decode(body, tuple[msgspec.Raw, ...])
    markets: dict[str, wire.SpotMarket] = {}
    last_error: BadReply | None = None
    for row in rows:
        try:
            market = decode(row, wire.SpotMarket)
        except BadReply as error:
            last_error = error
        else:
            markets[market.symbol] = market
    if last_error is not None and not markets:
        raise BadReply("no readable market", body) from last_error
    return markets


def decode_currencies(body: bytes) -> dict[str, wire.CurrencyRow]:
    """Return the currencies of GET /currencies, or the one of GET /currencies/{currency}, by their names."""
    if body.lstrip()[:1] == b"[":
        rows = decode(body, tuple[dict[str, wire.CurrencyRow], ...])
    else:
        rows = (decode(body, dict[str, wire.CurrencyRow]),)
    return {safe_text(name, wire.ID_LENGTH_MAX): currency for row in rows for name, currency in row.items()}


def decode_addresses(body: bytes) -> dict[str, str]:
    """Return the deposit addresses of GET /wallets/addresses by currency."""
    rows = decode(body, dict[str, str])
    return {
        safe_text(currency, wire.ID_LENGTH_MAX): safe_text(address, wire.TEXT_LENGTH_MAX)
        for currency, address in rows.items()
    }


def decode_order_book(body: bytes) -> wire.OrderBook:
    """Return a book; on the wire its levels are one flat list of price, quantity, price, quantity."""
    row = decode(body, wire.FlatBookRow)
    return wire.OrderBook(
        time_ms=row.time_ms,
        scale=row.scale,
        asks=_levels(row.asks, body),
        bids=_levels(row.bids, body),
        ts_ms=row.ts_ms,
    )


def _levels(flat: Sequence[Decimal], body: bytes) -> tuple[wire.Level, ...]:
    if len(flat) % 2 or not all(wire.is_bounded(value) for value in flat):
        raise BadReply("a book of half levels, or of numbers that are no money", body)
    return tuple(wire.Level(price, quantity) for price, quantity in zip(flat[::2], flat[1::2], strict=True))


class Refusal(NamedTuple):
    """What an answer other than 200 says; the code is None when it is none of the exchange's own."""

    code: int | None
    text: str


def decode_refusal(body: bytes) -> Refusal:
    """Return code and text of an answer other than 200, fit for a terminal."""
    try:
        reply = msgspec.json.decode(body, type=ErrorReply, strict=False)
    except UNREADABLE:
        return Refusal(None, safe_text(body[: 2 * TEXT_LENGTH_MAX].decode(errors="replace"), TEXT_LENGTH_MAX))
    return Refusal(reply.code, safe_text(reply.message or reply.msg, TEXT_LENGTH_MAX))


# --- asking


def query(params: Mapping[str, str | int | bool | None]) -> str:
    """Return a query as it goes on the wire; what is None is left out."""
    return query_text((name, _plain(value)) for name, value in params.items() if value is not None)


def _plain(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def page_params(page: wire.Page) -> dict[str, str | int | bool | None]:
    """Return the parameters that choose a part of a list."""
    return {
        "limit": page.limit,
        "from": page.from_id,
        "direction": page.direction,
        "startTime": page.start_ms,
        "endTime": page.end_ms,
    }


def path(endpoint: wire.Endpoint, **names: str) -> str:
    """Return the path of a call, its `{names}` filled in.

    Raises:
        NotListed: a name that nothing at the exchange can have; in a path it could mean another call.

    """
    for value in names.values():
        if not _NAME.fullmatch(value.removeprefix("cid:")):
            raise NotListed(f"{safe_text(value, wire.ID_LENGTH_MAX)!r} is no symbol, currency or id")
    return endpoint.path.format(**names)


def by_id(order_id: str) -> wire.OrderRef:
    """Return the reference to an order by the exchange's id."""
    return wire.OrderRef(order_id)


def by_client_id(client_id: str) -> wire.OrderRef:
    """Return the reference to an order by our own id."""
    return wire.OrderRef(f"cid:{encoded(client_id)}")


# --- sending


def _plain_id(value: object) -> str:
    """Return an id that the exchange gave us as plain text: msgspec does not know kinds of `str`."""
    assert isinstance(value, wire.ExchangeId), value
    return str(value)


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain_id)


def encode(body: wire.Body | wire.CancelAllBody | Sequence[wire.Body]) -> bytes:
    """Return a body as it is sent, and signed."""
    return _encoder.encode(body)


def plain_number(what: str, value: Decimal) -> str:
    """Return a positive number in plain notation.

    Raises:
        OrderRefusedHere: `value` is not above 0, or longer than any number the exchange takes.

    """
    if not value.is_finite() or value <= 0:
        raise OrderRefusedHere(f"{what} {value} is not above 0")
    if abs(value.adjusted()) > NUMBER_LENGTH_MAX or len(text := f"{value:f}") > NUMBER_LENGTH_MAX:
        raise OrderRefusedHere(f"{what} is longer than {NUMBER_LENGTH_MAX} characters")
    return text


def order_body(order: wire.NewOrder, market: wire.SpotMarket) -> wire.OrderBody:
    """Return the body of POST /orders.

    Raises:
        OrderRefusedHere: the exchange would refuse this order, or take it for another one.

    """
    _check_market(order.symbol, market)
    _check_sizes(order.symbol, order.type, order.side, order.price, order.quantity, order.amount)
    if order.type == "LIMIT_MAKER" and order.time_in_force != "GTC":
        raise OrderRefusedHere(f"{order.symbol}: LIMIT_MAKER with {order.time_in_force}: only GTC can rest")
    tolerance = order.slippage_tolerance
    if tolerance is not None and (order.type != "MARKET" or not 0 < tolerance < 1):
        raise OrderRefusedHere(
            f"{order.symbol}: slippage tolerance {tolerance} of a {order.type} order: "
            "only market orders have one, above 0 and below 1"
        )
    return wire.OrderBody(
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        # A market order never rests; the exchange takes it as IOC whatever is said.
        time_in_force=None if order.type == "MARKET" else order.time_in_force,
        account_type="SPOT",
        client_order_id=checked_client_id(order.client_id),
        allow_borrow=order.allow_borrow,
        stp_mode=order.self_trade,
        slippage_tolerance=None if tolerance is None else plain_number("slippage tolerance", tolerance),
        **_numbers(order.symbol, market, order.price, order.quantity, order.amount)._asdict(),
    )


def smart_order_body(order: wire.NewSmartOrder, market: wire.SpotMarket) -> wire.OrderBody:
    """Return the body of POST /smartorders. Raises as `order_body`."""
    _check_market(order.symbol, market)
    is_limit = order.type in {"STOP_LIMIT", "TRAILING_STOP_LIMIT"}
    if order.type == "TRAILING_STOP_LIMIT":
        if order.price is not None or order.quantity is None or order.amount is not None:
            raise OrderRefusedHere(f"{order.symbol}: {order.type} takes a quantity and a limit offset, not a price")
    else:
        _check_sizes(
            order.symbol, "LIMIT" if is_limit else "MARKET", order.side, order.price, order.quantity, order.amount
        )
    is_trailing = order.type.startswith("TRAILING")
    if is_trailing is (order.trailing_offset is None):
        raise OrderRefusedHere(f"{order.symbol}: a trailing offset belongs to trailing orders; this is {order.type}")
    if (order.type == "TRAILING_STOP_LIMIT") is (order.limit_offset is None):
        raise OrderRefusedHere(f"{order.symbol}: a limit offset belongs to TRAILING_STOP_LIMIT; this is {order.type}")
    limit = market.symbol_trade_limit
    return wire.OrderBody(
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force if is_limit else None,
        account_type="SPOT",
        client_order_id=checked_client_id(order.client_id),
        allow_borrow=order.allow_borrow,
        stop_price=_on_scale(f"{order.symbol}: stop price", order.stop_price, limit.price_scale),
        trailing_offset=_offset(f"{order.symbol}: trailing offset", order.trailing_offset, limit.price_scale),
        limit_offset=_offset(f"{order.symbol}: limit offset", order.limit_offset, limit.price_scale),
        operator=order.operator,
        **_numbers(order.symbol, market, order.price, order.quantity, order.amount)._asdict(),
    )


def replace_body(change: wire.Replacement, market: wire.SpotMarket, *, is_smart: bool = False) -> wire.ReplaceBody:
    """Return the body of PUT /orders/{id} or /smartorders/{id}. Raises as `order_body`."""
    if change.stop_price is not None and not is_smart:
        raise OrderRefusedHere(f"{market.symbol}: stop price {change.stop_price} of an order that is not a smart one")
    limit = market.symbol_trade_limit
    stop_price = change.stop_price
    return wire.ReplaceBody(
        type=change.type,
        time_in_force=change.time_in_force,
        client_order_id=checked_client_id(change.client_id),
        stop_price=None
        if stop_price is None
        else _on_scale(f"{market.symbol}: stop price", stop_price, limit.price_scale),
        proceed_on_failure=change.proceeds_on_failure,
        **_numbers(market.symbol, market, change.price, change.quantity, change.amount)._asdict(),
    )


def cancel_all_body(symbols: Iterable[str] | None) -> wire.CancelAllBody:
    """Return the body that cancels everything in `symbols`; None means in all markets, and must be said.

    Raises:
        OrderRefusedHere: an empty list, which the exchange would take for all markets.

    """
    if symbols is None:
        return wire.CancelAllBody(symbols=())
    chosen = tuple(symbols)
    if not chosen or isinstance(symbols, str):
        raise OrderRefusedHere(f"cancel-all for {symbols!r}: an empty filter would cancel everything")
    return wire.CancelAllBody(symbols=chosen)


def kill_switch_body(timeout_s: int | None) -> wire.KillSwitchBody:
    """Return the body that arms the kill switch, or disarms it with None.

    Raises:
        OrderRefusedHere: `timeout_s` is beyond its bounds.

    """
    if timeout_s is None:
        return wire.KillSwitchBody(timeout=KILL_SWITCH_OFF)
    if not KILL_SWITCH_S_MIN <= timeout_s <= KILL_SWITCH_S_MAX:
        raise OrderRefusedHere(f"kill switch of {timeout_s} s: {KILL_SWITCH_S_MIN} to {KILL_SWITCH_S_MAX} s")
    return wire.KillSwitchBody(timeout=str(timeout_s))


def checked_client_id(client_id: str) -> str:
    """Return a client id that the exchange takes, or raise `OrderRefusedHere`."""
    if not _NAME.fullmatch(client_id):
        raise OrderRefusedHere(
            f"client id {safe_text(client_id, wire.ID_LENGTH_MAX)!r}: 1 to 64 characters of A-Z a-z 0-9 _ -"
        )
    return client_id


class _Numbers(NamedTuple):
    price: str | None
    quantity: str | None
    amount: str | None


def _check_market(symbol: str, market: wire.SpotMarket) -> None:
    if symbol != market.symbol:
        raise OrderRefusedHere(f"{symbol}: checked against the rules of {market.symbol}")


def _check_sizes(
    symbol: str, kind: str, side: Side, price: Decimal | None, quantity: Decimal | None, amount: Decimal | None
) -> None:
    """Refuse an order whose price, quantity or amount is missing or too much for its kind."""
    is_market_buy = kind == "MARKET" and side is Side.BUY
    wanted = {"price": kind != "MARKET", "quantity": not is_market_buy, "amount": is_market_buy}
    for name, value in (("price", price), ("quantity", quantity), ("amount", amount)):
        if (value is None) is wanted[name]:
            raise OrderRefusedHere(f"{symbol}: a {kind} {side} order {'needs' if wanted[name] else 'takes no'} {name}")


def _numbers(
    symbol: str, market: wire.SpotMarket, price: Decimal | None, quantity: Decimal | None, amount: Decimal | None
) -> _Numbers:
    """Return the numbers of an order as text, each within the scale and the bounds of its market."""
    limit = market.symbol_trade_limit
    texts = _Numbers(
        price=None if price is None else _on_scale(f"{symbol}: price", price, limit.price_scale),
        quantity=None if quantity is None else _on_scale(f"{symbol}: quantity", quantity, limit.quantity_scale),
        amount=None if amount is None else _on_scale(f"{symbol}: amount", amount, limit.amount_scale),
    )
    if quantity is not None:
        _check_bounds(f"{symbol}: quantity", quantity, limit.min_quantity, limit.max_quantity)
    if amount is not None:
        _check_bounds(f"{symbol}: amount", amount, limit.min_amount, limit.max_amount)
    if price is not None and quantity is not None:
        value = _EXACT.multiply(price, quantity)
        _check_bounds(f"{symbol}: price x quantity", value, limit.min_amount, limit.max_amount)
    return texts


def _check_bounds(what: str, value: Decimal, least: Decimal, most: Decimal) -> None:
    if value < least:
        raise OrderRefusedHere(f"{what} {value:f} < minimum {least:f}")
    if most and value > most:
        raise OrderRefusedHere(f"{what} {value:f} > maximum {most:f}")


def _on_scale(what: str, value: Decimal, scale: int) -> str:
    """Return a number as text; zeros at its end do not count as decimals."""
    text = plain_number(what, value)
    if len(text.partition(".")[2].rstrip("0")) > scale:
        raise OrderRefusedHere(f"{what} {text} has more than {scale} decimals")
    return text


def _offset(what: str, offset: wire.Offset | None, scale: int) -> str | None:
    if offset is None:
        return None
    return f"{plain_number(what, offset.value)}%" if offset.is_percent else _on_scale(what, offset.value, scale)
