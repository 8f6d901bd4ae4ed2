"""A client that shares no line with ours, as dumb as can be: `http.client`, `hmac` and frames by `wsproto`.

It sends what it is told to send, byte by byte, as the official SDKs do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

TIMEOUT_S = 10.0
TOO_MANY = 429


class Answer(NamedTuple):
    """A status and what the JSON body says."""

    status: int
    body: Any


def signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


class RawRest:
    """One account's REST calls, signed as the pages say."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self._address = urlsplit(url).netloc
        self._key = key
        self._secret = secret

    def ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: str | None = None, **headers: str
    ) -> Answer:
        """Send a signed request; `body` goes out as it is. Too many in a second: sign again a little later."""
        while (answer := self._ask(method, path, query or {}, body, headers)).status == TOO_MANY:
            time.sleep(0.1)
        return answer

    def _ask(self, method: str, path: str, query: dict[str, str], body: str | None, headers: dict[str, str]) -> Answer:
        now_ms = str(int(time.time() * 1000))
        if body is None:
            named = {name: quote(value, safe="~()*!'") for name, value in query.items()}
            text = "&".join(f"{name}={value}" for name, value in sorted({**named, "signTimestamp": now_ms}.items()))
        else:
            text = f"requestBody={body}&signTimestamp={now_ms}"
        signed = {
            "key": self._key,
            "signTimestamp": now_ms,
            "signature": signature(self._secret, f"{method}\n{path}\n{text}"),
        }
        target = path + ("?" + "&".join(f"{name}={quote(value)}" for name, value in query.items()) if query else "")
        return self.send(method, target, body, {**signed, **headers})

    def send(self, method: str, target: str, body: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)
        try:
            content = {} if body is None else {"Content-Type": "application/json"}
            data = None if body is None else body.encode()
            connection.request(method, target, data, {"User-Agent": "raw", **content, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        finally:
            connection.close()


class RawSocket:
    """A WebSocket whose messages are texts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._texts: list[str] = []
        self._half = ""
        self._is_open = False
        self._socket.sendall(self._protocol.send(Request(host=parts.netloc, target=parts.path)))
        while not self._is_open:
            self._read()

    def say(self, **frame: Any) -> None:
        self.say_text(json.dumps(frame))

    def say_text(self, text: str) -> None:
        self._socket.sendall(self._protocol.send(TextMessage(data=text)))

    def hear_text(self) -> str:
        while not self._texts:
            self._read()
        return self._texts.pop(0)

    def hear(self) -> Any:
        return json.loads(self.hear_text())

    def hear_channel(self, channel: str) -> Any:
        """Return the next data of a channel, whatever comes before it."""
        while (frame := self.hear()).get("channel") != channel or "data" not in frame:
            pass
        return frame

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        data = self._socket.recv(65_536)
        assert data, "the exchange hung up"
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            match event:
                case AcceptConnection():
                    self._is_open = True
                case TextMessage():
                    self._half += event.data
                    if event.message_finished:
                        self._texts.append(self._half)
                        self._half = ""
                case CloseConnection():
                    raise AssertionError(f"the exchange closed: {event.code} {event.reason}")
                case _:
                    pass
