"""Spot error codes that the simulated exchange answers with, and its words for them.

Source: the dossier's spot-rest.md, section 11; the numbers are the exchange's, most texts are shortened.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from bot.exchange.simulated.replies import BAD_REQUEST, Refusal

UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
TIMED_OUT: Final = 408
TOO_MANY: Final = 429
MAINTENANCE_TEXT: Final = "Platform in maintenance mode"
_SHOWN_MAX: Final = 60


class Code(IntEnum):
    """What is wrong with a private request."""

    INVALID_PARAMETER = 601
    MISSING_PARAMETER = 602
    NO_SYMBOL = 10040
    SYMBOL_FROZEN = 10041
    NO_ACCOUNT = 21100
    NO_ORDER = 21301
    PRICE_NOT_POSITIVE = 21309
    CLIENT_ID_TAKEN = 21312
    OPEN_ORDERS_MAX = 21314
    CLIENT_ID_TOO_LONG = 21315
    AMOUNT_NOT_POSITIVE = 21317
    BAD_SIDE = 21319
    BAD_TYPE = 21320
    BAD_TIME_IN_FORCE = 21321
    AMOUNT_MIN = 21322
    BAD_ACCOUNT_TYPE = 21324
    QUANTITY_NOT_POSITIVE = 21328
    QUANTITY_MIN = 21330
    PRICE_SCALE = 21335
    QUANTITY_SCALE = 21336
    AMOUNT_SCALE = 21337
    MAINTENANCE = 21340
    POST_ONLY = 21341
    BAD_LIMIT = 21344
    ID_NOT_A_NUMBER = 21346
    BAD_STOP_PRICE = 21347
    TOO_LARGE = 21349
    BAD_RANGE = 21355
    ALREADY_FINISHED = 21359
    OVER_LIMIT = 21360
    NO_CURRENCY = 21705
    BALANCE_TOO_LOW = 21709
    AVAILABLE_TOO_LOW = 21721
    BAD_SYMBOL = 24101
    BAD_END_TIME = 24103
    BAD_START_TIME = 24105
    SMART_BAD_PARAMETER = 25001
    SMART_CLIENT_ID_TAKEN = 25004
    SMART_NOT_CANCELED = 25009
    NO_SMART_ORDER = 25013
    SMART_ACCOUNT_TYPE = 25018
    NO_KILL_SWITCH = 25020
    TRANSFER_TO = 250001
    TRANSFER_FROM = 250002
    TRANSFER_AMOUNT = 250003
    TRANSFER_UNSUPPORTED = 250004
    TRANSFER_CURRENCY = 250008
    NO_NETWORK = 820201
    NO_COIN = 830111
    CURRENCY_LOCKED = 21711


_TEXTS: Final = {
    Code.INVALID_PARAMETER: "Invalid parameter",
    Code.MISSING_PARAMETER: "Missing parameter",
    Code.NO_SYMBOL: "Symbol not supported",
    Code.SYMBOL_FROZEN: "Symbol frozen",
    Code.NO_ACCOUNT: "Account not found",
    Code.NO_ORDER: "Order not found",
    Code.PRICE_NOT_POSITIVE: "Price must be greater than 0",
    Code.CLIENT_ID_TAKEN: "Client order id already exists",
    Code.OPEN_ORDERS_MAX: "Open orders exceed the maximum of 2000",
    Code.CLIENT_ID_TOO_LONG: "Client order id exceeds 64 characters",
    Code.AMOUNT_NOT_POSITIVE: "Amount must be greater than 0",
    Code.BAD_SIDE: "Invalid side",
    Code.BAD_TYPE: "Invalid type",
    Code.BAD_TIME_IN_FORCE: "Invalid timeInForce",
    Code.AMOUNT_MIN: "Amount is less than minAmount",
    Code.BAD_ACCOUNT_TYPE: "Invalid accountType",
    Code.QUANTITY_NOT_POSITIVE: "Quantity must be greater than 0",
    Code.QUANTITY_MIN: "Quantity is less than minQuantity",
    Code.PRICE_SCALE: "Price has more decimals than priceScale",
    Code.QUANTITY_SCALE: "Quantity has more decimals than quantityScale",
    Code.AMOUNT_SCALE: "Amount has more decimals than amountScale",
    Code.MAINTENANCE: MAINTENANCE_TEXT,
    Code.POST_ONLY: "Market is in post-only mode",
    Code.BAD_LIMIT: "Invalid limit",
    Code.ID_NOT_A_NUMBER: "Order id must be a number",
    Code.BAD_STOP_PRICE: "Invalid stopPrice",
    Code.TOO_LARGE: "Value is too large",
    Code.BAD_RANGE: "Time range is too long",
    Code.ALREADY_FINISHED: "Order was already filled or canceled",
    Code.OVER_LIMIT: "Order size is over the limit",
    Code.NO_CURRENCY: "Invalid currency",
    Code.BALANCE_TOO_LOW: "Balance is too low",
    Code.AVAILABLE_TOO_LOW: "Available balance is too low",
    Code.BAD_SYMBOL: "Invalid symbol",
    Code.BAD_END_TIME: "Invalid endTime",
    Code.BAD_START_TIME: "Invalid startTime",
    Code.SMART_BAD_PARAMETER: "Invalid parameter",
    Code.SMART_CLIENT_ID_TAKEN: "Client order id already exists",
    Code.SMART_NOT_CANCELED: "Smart order was already triggered or canceled",
    Code.NO_SMART_ORDER: "Smart order not found",
    Code.SMART_ACCOUNT_TYPE: "Invalid accountType",
    Code.NO_KILL_SWITCH: "Kill switch is not armed",
    Code.TRANSFER_TO: "Invalid toAccount",
    Code.TRANSFER_FROM: "Invalid fromAccount",
    Code.TRANSFER_AMOUNT: "Invalid amount",
    Code.TRANSFER_UNSUPPORTED: "Transfer not supported",
    Code.TRANSFER_CURRENCY: "Invalid currency",
    Code.NO_NETWORK: "Invalid network",
    Code.NO_COIN: "Invalid coin or network",
    Code.CURRENCY_LOCKED: "Currency is locked: no money leaves a simulated exchange",
}


def refused(code: Code, value: str = "") -> Refusal:
    """Return a refusal, with the value that is at fault."""
    return Refusal(code, f"{_TEXTS[code]}: {value[:_SHOWN_MAX]}" if value else _TEXTS[code], BAD_REQUEST)


def not_found(path: str) -> Refusal:
    """Return the refusal of a path that is not served."""
    return Refusal(NOT_FOUND, f"Not Found: {path[:100]}", NOT_FOUND)
