"""Answers of Poloniex's spot REST calls, as the dossier's spot-rest.md documents them."""

from __future__ import annotations

import json
from typing import Any, Final

from bot.exchange.poloniex import spot_wire as wire

TS: Final = 1_700_000_000_123

MARKET: Final[dict[str, Any]] = {
    "symbol": "BTC_USDT",
    "baseCurrencyName": "BTC",
    "quoteCurrencyName": "USDT",
    "displayName": "BTC/USDT",
    "state": "NORMAL",
    "visibleStartTime": 1659018819512,
    "tradableStartTime": 1659018819512,
    "symbolTradeLimit": {
        "symbol": "BTC_USDT",
        "priceScale": 2,
        "quantityScale": 6,
        "amountScale": 2,
        "minQuantity": "0.000001",
        "minAmount": "1",
        "highestBid": "0",
        "lowestAsk": "0",
        "maxQuantity": "100",
        "maxAmount": "1000000",
    },
    "crossMargin": {"supportCrossMargin": True, "maxLeverage": 3},
}
CURRENCY: Final[dict[str, Any]] = {
    "BTC": {
        "id": 28,
        "name": "Bitcoin",
        "description": "BTC Clone",
        "type": "address",
        "withdrawalFee": "0.0008",
        "minConf": 2,
        "depositAddress": None,
        "blockchain": "BTC",
        "delisted": False,
        "tradingState": "NORMAL",
        "walletState": "ENABLED",
        "parentChain": None,
        "isMultiChain": True,
        "isChildChain": False,
        "childChains": ["BTCTRON"],
        "supportCollateral": True,
        "supportBorrow": True,
    }
}
COIN: Final[dict[str, Any]] = {
    "id": 1,
    "coin": "BTC",
    "delisted": False,
    "tradeEnable": True,
    "name": "Bitcoin",
    "supportCollateral": True,
    "supportBorrow": True,
    "networkList": [
        {
            "id": 2,
            "coin": "BTC",
            "name": "Bitcoin",
            "currencyType": "address",
            "blockchain": "BTC",
            "withdrawalEnable": True,
            "depositEnable": True,
            "depositAddress": None,
            "withdrawMin": None,
            "decimals": "8",
            "withdrawFee": "0.0008",
            "minConfirm": 2,
            "contractAddress": None,
        }
    ],
}
PRICE: Final = {"symbol": "BTC_USDT", "price": "20000.01", "time": TS, "dailyChange": "-0.0123", "ts": TS}
MARK_PRICE: Final = {"symbol": "BTC_USDT", "markPrice": "20000.02", "time": TS}
COMPONENTS: Final = {
    "symbol": "BTC_USDT",
    "markPrice": "20000.02",
    "ts": TS,
    "components": [
        {
            "symbol": "BTC_USDT",
            "symbolPrice": "20000",
            "weight": "0.5",
            "convertPrice": "20000",
            "exchange": "BINANCE",
        }
    ],
}
BOOK: Final = {
    "time": TS,
    "scale": "0.01",
    "asks": ["46100", "1.5", "46101", "0.3"],
    "bids": ["46099.99", "2"],
    "ts": TS,
}
CANDLE: Final = ["9", "12", "10", "11", "33", "3", "11", "1", 4, TS, "11", "MINUTE_1", TS, TS + 59_999]
PUBLIC_TRADE: Final = {
    "id": "194",
    "price": "1.9",
    "quantity": "110",
    "amount": "209.00",
    "takerSide": "SELL",
    "ts": TS,
    "createTime": TS,
}
TICKER: Final = {
    "symbol": "BTC_USDT",
    "open": "26200",
    "low": "26000",
    "high": "26500",
    "close": "26400",
    "quantity": "1000",
    "amount": "26000000",
    "tradeCount": 1000,
    "startTime": TS,
    "closeTime": TS,
    "displayName": "BTC/USDT",
    "dailyChange": "0.01",
    "bid": "26399",
    "bidQuantity": "1",
    "ask": "26401",
    "askQuantity": "2",
    "ts": TS,
    "markPrice": "26400",
}
COLLATERAL: Final = {
    "currency": "BTC",
    "collateralRate": "0.9",
    "initialMarginRate": "0.3",
    "maintenanceMarginRate": "0.05",
}
BORROW_TIER: Final = {
    "tier": "TIER1",
    "rates": [{"currency": "BTC", "dailyBorrowRate": "0.001", "hourlyBorrowRate": "0.0000416", "borrowLimit": "10.0"}],
}
ACCOUNT: Final = {"accountId": "123", "accountType": "SPOT", "accountState": "NORMAL"}
BALANCES: Final = {
    "accountId": "123",
    "accountType": "SPOT",
    "balances": [{"currencyId": "214", "currency": "USDT", "available": "-0.5", "hold": "3.2"}],
}
ACTIVITY: Final = {
    "id": "4",
    "currency": "AIR",
    "amount": "-1.5",
    "state": "SUCCESS",
    "createTime": TS,
    "description": "Airdrop",
    "activityType": 201,
}
TRANSFER_ID: Final = {"transferId": "168041074"}
TRANSFER: Final = {
    "id": "167",
    "fromAccount": "SPOT",
    "toAccount": "FUTURES",
    "currency": "USDT",
    "amount": "10.5",
    "state": "SUCCESS",
    "createTime": TS,
}
FEE_INFO: Final = {
    "trxDiscount": False,
    "makerRate": "0.00145",
    "takerRate": "0.00155",
    "volume30D": "100000",
    "specialFeeRates": [{"symbol": "BTC_USDD", "makerRate": "0", "takerRate": "0"}],
}
INTEREST: Final = {
    "id": "1",
    "interestAccuredTime": TS,
    "currencyName": "USDT",
    "principal": "100",
    "interest": "0.01",
    "interestRate": "0.0001",
}
SUBACCOUNT: Final = {"accountId": "123", "accountName": "Sub", "accountState": "NORMAL", "isPrimary": "false"}
SUBACCOUNT_BALANCES: Final = {
    "accountId": "123",
    "accountName": "Sub",
    "accountType": "FUTURES",
    "isPrimary": "true",
    "balances": [
        {"currency": "BTC", "available": "1", "hold": "0", "maxAvailable": "1"},
        {"currency": "USDT", "accountEquity": "5", "unrealisedPNL": "-1", "pnl": "2"},
    ],
}
SUBACCOUNT_TRANSFER: Final = {
    "id": "1",
    "fromAccountId": "2",
    "fromAccountName": "a",
    "fromAccountType": "SPOT",
    "toAccountId": "3",
    "toAccountName": "b",
    "toAccountType": "FUTURES",
    "currency": "USDT",
    "amount": "1.5",
    "state": "SUCCESS",
    "createTime": TS,
}
WALLETS: Final = {
    "adjustments": [],
    "deposits": [
        {
            "depositNumber": 7397520,
            "currency": "BTC",
            "address": "131rdg5Rzn6BFufnnQaHhVa5ZtRU1J2EZR",
            "amount": "0.06830697",
            "confirmations": 1,
            "txid": "3a4b9b2404f6e6fb556c3e1d46a9752f5e70a93ac1718605c992b80aacd8bd1d",
            "timestamp": 1506005439,
            "status": "COMPLETED",
        }
    ],
    "withdrawals": [
        {
            "withdrawalRequestsId": 33485231,
            "currency": "ETH",
            "address": "0x00",
            "amount": "55.90234",
            "fee": "0.01",
            "timestamp": 1501523432,
            "status": "COMPLETE: 0x2e",
            "txid": "0x2e",
            "ipAddress": "127.0.0.1",
            "paymentID": None,
        }
    ],
}
MARGIN: Final = {
    "totalAccountValue": "1000",
    "totalMargin": "900",
    "usedMargin": "100",
    "freeMargin": "800",
    "maintenanceMargin": "50",
    "marginRatio": "9.5",
    "time": TS,
}
BORROW_STATUS: Final = {
    "currency": "USDT",
    "available": "-5",
    "borrowed": "5",
    "hold": "0",
    "maxAvailable": "100",
    "hourlyBorrowRate": "0.00001",
    "version": 3,
}
MAX_SIZE: Final = {
    "symbol": "BTC_USDT",
    "maxLeverage": 3,
    "availableBuy": "5100",
    "maxAvailableBuy": "15100",
    "availableSell": "2",
    "maxAvailableSell": "4",
}
ORDER_IDS: Final = {"id": "29772698821328896", "clientOrderId": "b1"}
ORDER: Final[dict[str, Any]] = {
    "id": "21934611974062080",
    "clientOrderId": "b1",
    "symbol": "BTC_USDT",
    "state": "PARTIALLY_FILLED",
    "accountType": "SPOT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "20.00",
    "price": "1.9",
    "avgPrice": "1.85",
    "amount": "0",
    "filledQuantity": "5.000000000000000001",
    "filledAmount": 9.25,
    "createTime": TS,
    "updateTime": TS,
    "orderSource": "API",
    "loan": False,
    "cancelReason": 0,
}
CANCEL: Final = {
    "orderId": "32487004629499904",
    "clientOrderId": "b1",
    "state": "PENDING_CANCEL",
    "code": 200,
    "message": "",
}
KILL_SWITCH: Final = {"startTime": TS, "cancellationTime": str(TS + 15_000)}
TRADE: Final = {
    "id": "62561238",
    "symbol": "BTC_USDT",
    "accountType": "SPOT",
    "orderId": "32164923987566592",
    "side": "SELL",
    "type": "MARKET",
    "matchRole": "TAKER",
    "createTime": TS,
    "price": "1.95",
    "quantity": "1",
    "amount": "1.95",
    "feeCurrency": "USDT",
    "feeAmount": "0.00303",
    "pageId": 32164924331503616,
    "clientOrderId": "myOwnId-321",
}
SMART_ORDER: Final[dict[str, Any]] = {
    "id": "14368195657859072",
    "clientOrderId": "b1",
    "symbol": "BTC_USDT",
    "state": "TRIGGERED",
    "accountType": "SPOT",
    "side": "BUY",
    "type": "STOP_LIMIT",
    "timeInForce": "FOK",
    "quantity": "0.01",
    "price": "60100.00",
    "amount": "0",
    "stopPrice": "60000.00",
    "createTime": TS,
    "updateTime": TS,
    "triggeredOrder": ORDER,
}

SAMPLES: Final[list[tuple[type[Any], object]]] = [
    (wire.SpotMarket, MARKET),
    (dict[str, wire.CurrencyRow], CURRENCY),
    (wire.CoinRow, COIN),
    (wire.PriceRow, PRICE),
    (wire.MarkPriceRow, MARK_PRICE),
    (wire.MarkPriceComponents, COMPONENTS),
    (wire.SpotCandle, CANDLE),
    (wire.PublicTrade, PUBLIC_TRADE),
    (wire.SpotTicker, TICKER),
    (wire.CollateralRow, COLLATERAL),
    (wire.BorrowTier, BORROW_TIER),
    (wire.AccountRow, ACCOUNT),
    (wire.AccountBalances, BALANCES),
    (wire.ActivityRow, ACTIVITY),
    (wire.TransferId, TRANSFER_ID),
    (wire.TransferRow, TRANSFER),
    (wire.FeeInfo, FEE_INFO),
    (wire.InterestRow, INTEREST),
    (wire.SubaccountRow, SUBACCOUNT),
    (wire.SubaccountBalances, SUBACCOUNT_BALANCES),
    (wire.SubaccountTransferRow, SUBACCOUNT_TRANSFER),
    (wire.WalletsActivity, WALLETS),
    (wire.AddressRow, {"address": "bxt1"}),
    (wire.WithdrawalId, {"withdrawalNumber": 13449869}),
    (wire.MarginRow, MARGIN),
    (wire.BorrowStatusRow, BORROW_STATUS),
    (wire.MaxSizeRow, MAX_SIZE),
    (wire.OrderIds, ORDER_IDS),
    (wire.OrderRow, ORDER),
    (wire.CancelRow, CANCEL),
    (wire.KillSwitchRow, KILL_SWITCH),
    (wire.TradeRow, TRADE),
    (wire.SmartOrderRow, SMART_ORDER),
]


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()
