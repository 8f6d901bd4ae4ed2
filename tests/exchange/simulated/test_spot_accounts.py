"""Accounts, transfers, wallets and margin, and the currencies that they are of."""

from __future__ import annotations

from bot.core.instrument import ATOMS
from tests.exchange.simulated.builders import BTC
from tests.exchange.simulated.traders import Exchange

ETH = "ETH_USDT"


def test_transfers_move_money_between_spot_and_futures() -> None:
    exchange = Exchange()
    body = {"currency": "USDT", "amount": "100.5", "fromAccount": "SPOT", "toAccount": "FUTURES"}
    transfer_id = exchange.ask(exchange.ann, "POST", "/accounts/transfer", body=body)["transferId"]
    assert exchange.money(exchange.ann, "USDT") == ("899.5", "0")
    (futures,) = exchange.ask(exchange.ann, "GET", "/accounts/balances", {"accountType": "FUTURES"})
    assert futures["balances"][0]["available"] == "100.5"
    row = exchange.ask(exchange.ann, "GET", f"/accounts/transfer/{transfer_id}")
    assert exchange.ask(exchange.ann, "GET", "/accounts/transfer") == [row]
    assert (row["fromAccount"], row["amount"], row["state"]) == ("SPOT", "100.5", "SUCCESS")
    for changes, code in (
        ({"amount": "900"}, 21709),
        ({"amount": "0"}, 250003),
        ({"amount": "-1"}, 250003),
        ({"fromAccount": "BANK"}, 250002),
        ({"toAccount": "BANK"}, 250001),
        ({"toAccount": "SPOT"}, 250004),
        ({"currency": "BTC"}, 250004),
        ({"currency": "DOGE"}, 250008),
    ):
        assert exchange.refused(exchange.ann, "POST", "/accounts/transfer", body={**body, **changes}) == code
    exchange.spot.desk.futures_free = lambda _account, _currency: 50 * ATOMS
    back = {**body, "fromAccount": "FUTURES", "toAccount": "SPOT", "amount": "51"}
    assert exchange.refused(exchange.ann, "POST", "/accounts/transfer", body=back) == 21709
    exchange.ask(exchange.ann, "POST", "/accounts/transfer", body={**back, "amount": "50"})
    assert exchange.is_balanced()


def test_activity_has_what_no_trade_made() -> None:
    exchange = Exchange()
    rows = exchange.ask(exchange.ann, "GET", "/accounts/activity")
    assert [(row["currency"], row["amount"], row["activityType"]) for row in rows] == [
        ("BTC", "10", 104),
        ("USDT", "1000", 104),
    ]
    assert len(exchange.ask(exchange.ann, "GET", "/accounts/activity", {"currency": "BTC"})) == 1
    assert exchange.ask(exchange.ann, "GET", "/accounts/activity", {"activityType": "201"}) == []


def test_fees_are_told_as_they_are_charged() -> None:
    exchange = Exchange()
    exchange.limit(exchange.ann, "BUY", "1.02", "2")
    assert exchange.ask(exchange.ann, "GET", "/feeinfo") == {
        "trxDiscount": False,
        "makerRate": "0.00145",
        "takerRate": "0.00155",
        "volume30D": "2.04",
        "specialFeeRates": [],
    }


def test_what_nobody_has_is_an_empty_list() -> None:
    exchange = Exchange()
    for path in ("/accounts/interest/history", "/subaccounts/transfer", "/smartorders", "/orders", "/trades"):
        assert exchange.ask(exchange.ann, "GET", path) == []
    assert exchange.ask(exchange.ann, "GET", "/wallets/activity", {"start": "1", "end": "2"}) == {
        "adjustments": [],
        "deposits": [],
        "withdrawals": [],
    }


def test_the_primary_account_is_the_only_subaccount() -> None:
    exchange = Exchange()
    (row,) = exchange.ask(exchange.ann, "GET", "/subaccounts")
    assert (row["accountId"], row["isPrimary"]) == ("10001001", "true")
    rows = exchange.ask(exchange.ann, "GET", "/subaccounts/balances")
    assert [row["accountType"] for row in rows] == ["SPOT", "FUTURES"]
    assert exchange.ask(exchange.ann, "GET", "/subaccounts/10001001/balances") == rows
    assert exchange.refused(exchange.ann, "GET", "/subaccounts/10001002/balances") == 21100
    assert exchange.refused(exchange.ann, "GET", "/accounts/10001002/balances") == 21100
    body = {"currency": "USDT", "amount": "1", "fromAccountType": "SPOT", "toAccountType": "FUTURES"}
    ids = {"fromAccountId": "10001001", "toAccountId": "10001002"}
    assert exchange.refused(exchange.ann, "POST", "/subaccounts/transfer", body={**body, **ids}) == 250001
    ids = {"fromAccountId": "10001001", "toAccountId": 10001001}
    moved = exchange.ask(exchange.ann, "POST", "/subaccounts/transfer", body={**body, **ids})["transferId"]
    (row,) = exchange.ask(exchange.ann, "GET", "/subaccounts/transfer", {"fromAccountType": "spot"})
    assert (row["id"], row["amount"], row["fromAccountId"], row["toAccountType"]) == (moved, "1", "10001001", "FUTURES")
    assert exchange.ask(exchange.ann, "GET", f"/subaccounts/transfer/{moved}") == row
    assert exchange.ask(exchange.ann, "GET", "/subaccounts/transfer", {"fromAccountType": "FUTURES"}) == []
    assert exchange.refused(exchange.ann, "GET", "/subaccounts/transfer/17") == 601


def test_addresses_are_stable_and_no_money_leaves() -> None:
    exchange = Exchange()
    addresses = exchange.ask(exchange.ann, "GET", "/wallets/addresses")
    assert set(addresses) == {"BTC", "USDT"}
    assert exchange.ask(exchange.ann, "GET", "/wallets/addresses", {"currency": "BTC"}) == {"BTC": addresses["BTC"]}
    assert exchange.ask(exchange.ann, "POST", "/wallets/address", body={"currency": "BTC"}) == {
        "address": addresses["BTC"]
    }
    (network,) = exchange.ask(exchange.ann, "GET", "/v2/currencies/BTC")["networkList"]  # ccxt asks by the chain's name
    chain = {"currency": network["blockchain"]}
    assert exchange.ask(exchange.ann, "POST", "/wallets/address", body=chain) == {"address": addresses["BTC"]}
    withdrawal = {"currency": "BTC", "amount": "1", "address": "x"}
    assert exchange.refused(exchange.ann, "POST", "/wallets/withdraw", body=withdrawal) == 21711
    assert exchange.refused(exchange.ann, "POST", "/wallets/withdraw", body={"currency": "X"}) == 21705
    for fields, code in (
        ({"coin": "BTC"}, 820201),
        ({"coin": "X", "network": "SIM"}, 830111),
        ({"coin": "BTC", "network": "BTC"}, 21711),
    ):
        assert exchange.refused(exchange.ann, "POST", "/v2/wallets/withdraw", body=fields) == code
    assert exchange.money(exchange.ann, "BTC") == ("10", "0")


def test_margin_calls_tell_what_is_owned() -> None:
    exchange = Exchange()
    margin = exchange.ask(exchange.ann, "GET", "/margin/accountMargin", {"accountType": "SPOT"})
    assert (margin["totalAccountValue"], margin["usedMargin"]) == ("1010.1", "0")
    (row,) = exchange.ask(exchange.ann, "GET", "/margin/borrowStatus", {"currency": "USDT"})
    assert (row["available"], row["borrowed"]) == ("1000", "0")
    size = exchange.ask(exchange.ann, "GET", "/margin/maxSize", {"symbol": BTC})
    assert (size["availableBuy"], size["availableSell"]) == ("1000", "10")
    assert exchange.refused(exchange.ann, "GET", "/margin/maxSize", {"symbol": "X"}) == 24101


def test_currencies_are_listed_in_both_versions() -> None:
    exchange = Exchange(BTC, ETH)
    names = [next(iter(row)) for row in exchange.ask(exchange.ann, "GET", "/currencies")]
    assert names == ["BTC", "USDT", "ETH"]
    assert exchange.ask(exchange.ann, "GET", "/currencies/BTC")["BTC"]["name"] == "BTC"
    coins = exchange.ask(exchange.ann, "GET", "/v2/currencies/")
    assert [coin["coin"] for coin in coins] == names
    assert exchange.ask(exchange.ann, "GET", "/v2/currencies/ETH") == coins[2]
    assert exchange.refused(exchange.ann, "GET", "/v2/currencies/DOGE") == 21705
    assert exchange.ask(exchange.ann, "GET", "/markets/BTC/collateralInfo")["currency"] == "BTC"
    assert [row["currency"] for row in exchange.ask(exchange.ann, "GET", "/markets/collateralInfo")] == names
    (tier,) = exchange.ask(exchange.ann, "GET", "/markets/borrowRatesInfo")
    assert [rate["currency"] for rate in tier["rates"]] == names
    parts = exchange.ask(exchange.ann, "GET", f"/markets/{BTC}/markPriceComponents")
    assert (parts["markPrice"], parts["components"][0]["weight"]) == ("1.01", "1")
