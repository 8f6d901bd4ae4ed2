from __future__ import annotations

from typing import Any

import httpx
import msgspec
import trio

from bot.core.secret import Secret
from bot.exchange.poloniex.signing import Credentials, sign, websocket_signature
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.futures_instruments import generated_markets
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.server import SimulatedExchange, open_exchange
from tests.exchange.simulated.builders import BTC, START_NS, parsed, real_recording
from tests.exchange.simulated.futures_builders import PERP
from tests.exchange.simulated.test_server import connected


class Client:
    """A client that signs, over a real socket."""

    def __init__(self, exchange: SimulatedExchange, rest: httpx.AsyncClient, number: int = 0) -> None:
        account = exchange.clients[number]
        self.credentials = Credentials(Secret(account.key), Secret(account.secret))
        self._exchange, self._rest = exchange, rest

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else msgspec.json.encode(body)
        headers = sign(self.credentials, method, path, "", content, self._exchange.venue.time_ns // 10**6)
        reply = await self._rest.request(method, path, content=content, headers=headers)
        answer = reply.json()
        assert answer["code"] == 200, answer
        return answer["data"]


def source() -> MarketSource:
    return generated_markets([BTC, PERP], 1, START_NS)


async def test_a_contract_is_traded_over_sockets_and_events_come_before_answers() -> None:
    async with (
        open_exchange(source(), speed=1.0, futures=FuturesWing) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as rest,
        connected(exchange.ws_url.replace("/ws/public", "/ws/v3/private")) as private,
    ):
        client = Client(exchange, rest)
        secret, now_ms = client.credentials.secret, exchange.venue.time_ns // 10**6
        params = {
            "key": client.credentials.key.reveal(),
            "signTimestamp": now_ms,
            "signature": websocket_signature(secret, now_ms),
        }
        await private.send_message(
            msgspec.json.encode({"event": "subscribe", "channel": ["auth"], "params": params}).decode()
        )
        # The Python SDK does not wait for the answer.
        await private.send_message('{"event":"subscribe","channel":["orders","positions","account"],"symbols":["all"]}')
        assert str(await private.get_message()).startswith('{"data":{"success":true')
        assert [parsed(await private.get_message())["channel"] for _ in range(3)] == ["orders", "positions", "account"]
        order = {"symbol": PERP, "side": "BUY", "type": "MARKET", "sz": "5", "timeInForce": "GTC", "stpMode": "NONE"}
        placed = await client.ask("POST", "/v3/trade/order", order)
        frames = [parsed(await private.get_message()) for _ in range(2)]
        assert [(frame["channel"], frame["data"][0]["state"]) for frame in frames] == [
            ("orders", "NEW"),
            ("orders", "FILLED"),
        ]
        assert frames[0]["data"][0]["ordId"] == placed["ordId"]
        (position,) = await client.ask("GET", "/v3/trade/position/opens")
        assert (position["side"], position["qty"]) == ("BUY", "5")
        # Money moves between the two halves, but not what a position binds.
        transfer = {"currency": "USDT", "amount": "9990", "fromAccount": "FUTURES", "toAccount": "SPOT"}
        content = msgspec.json.encode(transfer)
        headers = sign(client.credentials, "POST", "/accounts/transfer", "", content, now_ms)
        assert (await rest.post("/accounts/transfer", content=content, headers=headers)).json()["code"] == 21709
        assert await client.ask("POST", "/v3/trade/positionAll")
        assert await client.ask("GET", "/v3/trade/position/opens") == []


async def test_public_frames_flow_while_the_market_runs_and_spot_does_not_show_contracts() -> None:
    async with (
        open_exchange(source(), speed=None, futures=FuturesWing) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as rest,
        connected(exchange.ws_url.replace("/ws/public", "/ws/v3/public")) as public,
    ):
        assert [row["symbol"] for row in (await rest.get("/markets")).json()] == [BTC]
        listed = (await rest.get("/v3/market/allInstruments")).json()
        assert [row["symbol"] for row in listed["data"]] == [PERP]
        channels = ["book_lv2", "trades", "mark_price", "tickers", "candles_minute_1"]
        await public.send_message(
            msgspec.json.encode({"event": "subscribe", "channel": channels, "symbols": [PERP]}).decode()
        )
        exchange.start()
        seen: set[str] = set()
        last_id = 0
        with trio.fail_after(10):
            while seen != set(channels):
                frame = parsed(await public.get_message())
                if "data" in frame:
                    seen.add(frame["channel"])
                    if frame["channel"] == "book_lv2":
                        assert frame["action"] == "snapshot" or frame["data"][0]["lid"] == last_id
                        last_id = frame["data"][0]["id"]


async def test_a_perpetual_recording_is_spot_until_futures_are_opened() -> None:
    recording = real_recording("perp-btc_usdt-20240808.jsonl.gz")
    async with open_exchange(recording, speed=None) as exchange, httpx.AsyncClient(base_url=exchange.rest_url) as rest:
        assert [row["symbol"] for row in (await rest.get("/markets")).json()] == [PERP]
        assert (await rest.get("/v3/market/allInstruments")).status_code == 404
    async with (
        open_exchange(recording, speed=None, futures=FuturesWing) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as rest,
    ):
        assert (await rest.get("/markets")).json() == []
        book = (await rest.get("/v3/market/orderBook", params={"symbol": PERP, "limit": 5})).json()["data"]
        assert book["bids"][0] == ["61800.2", "2909"]  # 2.909 coins
