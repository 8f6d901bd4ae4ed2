"""The screen: shows what it is told, sends what is asked, and survives whatever it is told."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from textual.pilot import Pilot

from bot.control.protocol import Answer, Command, Lost, Note, Reply
from bot.core.messages import RiskState
from bot.tui.app import Dialog, ScreenResult, TradingScreen
from tests.control.samples import NOW_NS, busy_view, fill, hello, latch, market, order, position, research, view
from tests.tui.fake_daemon import FakeDaemon

SNAPSHOTS = Path(__file__).parent / "snapshots"
SMALL, LARGE = (80, 24), (140, 40)

NOTES: tuple[Note, ...] = (
    Note(ts_ns=NOW_NS, level="info", text="connected to poloniex: 2 markets"),
    Note(ts_ns=NOW_NS, level="warning", text="book of ETH_USDT lost: gap 812 > 810"),
    Note(ts_ns=NOW_NS, level="error", text="SELL 12 ETH_USDT rejected: 21330 balance too low"),
)


class Screen:
    """A running screen, its pilot and its daemon."""

    def __init__(self, app: TradingScreen, pilot: Pilot[ScreenResult], daemon: FakeDaemon) -> None:
        self.app = app
        self.pilot = pilot
        self.daemon = daemon

    @property
    def text(self) -> str:
        """What is on the terminal now, line by line. The one place that knows how Textual is asked for it."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips) + "\n"

    async def until(self, condition: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < give_up_s, f"never came, last shown:\n{self.text}"
            await self.pilot.pause(0.01)

    async def asks(self) -> None:
        await self.until(lambda: isinstance(self.app.screen, Dialog))

    async def shows(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)


def only_command(daemon: FakeDaemon) -> Command:
    """Return the one command that the daemon was sent."""
    (sent,) = [request for request in daemon.asked if isinstance(request, Command)]
    return sent


Check = Callable[[Screen], Awaitable[None]]


def run(
    tmp_path: Path,
    check: Check,
    *greeting: Answer,
    size: tuple[int, int] = SMALL,
    may_stop: bool = True,
) -> ScreenResult | None:
    """Run `check` on a screen that is attached and painted; return how the screen was left."""

    async def main() -> ScreenResult | None:
        async with FakeDaemon(tmp_path / "x.sock", *greeting) as daemon:
            app = TradingScreen(daemon.path, tmp_path, may_stop=may_stop, repaint_s=0.01, now_s=lambda: 0.0)
            async with app.run_test(size=size) as pilot:
                screen = Screen(app, pilot, daemon)
                await screen.shows("PAPER", "Feed")
                await check(screen)
            return app.return_value

    return asyncio.run(asyncio.wait_for(main(), 30))


# --- what is shown


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", ["busy", "empty", "halted"])
def test_the_screen_looks_as_it_did(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    """Compared with a text snapshot; `BOT_WRITE_SNAPSHOTS=1` writes it anew, to be read before it is committed."""
    shown = {
        "busy": busy_view(),
        "empty": view(),
        "halted": busy_view(
            risk_state=RiskState.HALTED, risk_cause="drawdown_max", feed="lost", progress=(25_000, 200_000)
        ),
    }[kind]
    path = SNAPSHOTS / f"{kind}_{size[0]}x{size[1]}.txt"

    async def check(screen: Screen) -> None:
        if os.environ.get("BOT_WRITE_SNAPSHOTS"):
            await screen.pilot.pause(0.5)
            path.write_text(screen.text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8")
        await screen.until(lambda: screen.text == expected)

    run(tmp_path, check, hello(), shown, *(NOTES if kind != "empty" else ()), size=size)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (110, 24), (140, 40), (80, 50), (240, 70)])
def test_every_size_shows_what_matters(size: tuple[int, int], tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.shows("10,061.44", "+61.44", "0.41%", "NORMAL", "live", "UTC")
        await screen.shows("Positions 2", "▲ +48.97", "▼ -28.77", "Working orders 2", "63,900.00", "Fills 8", "Log")
        await screen.shows("64,512.20", "h halt", "? help", "21330")

    run(tmp_path, check, hello(), busy_view(), *NOTES, size=size)


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (40, 12)])
def test_a_tiny_terminal_breaks_nothing(size: tuple[int, int], tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.pilot.resize_terminal(*size)
        screen.daemon.show(busy_view(equity=Decimal(2)))
        await screen.until(lambda: "Positions 2" in str(screen.app.query_one("#positions").border_title))
        await screen.pilot.resize_terminal(*SMALL)
        await screen.shows("Positions 2")

    run(tmp_path, check)


def test_a_new_view_replaces_the_last(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.shows("no open positions", "no working orders", "no fills yet")
        screen.daemon.show(view(positions=(position(),), orders=(order(),), fills=(fill(),)))
        await screen.shows("Positions 1", "Working orders 1", "Fills 1")
        screen.daemon.show(view(equity=None, day_pnl=None))
        await screen.shows("no open positions", "Equity —", "Day —")

    run(tmp_path, check)


def test_live_money_is_said_in_words(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.daemon.say(hello(mode="live"))
        await screen.shows("LIVE", "real money")

    run(tmp_path, check)


def test_a_recording_has_a_progress_bar(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        assert "Recording" not in screen.text
        screen.daemon.show(view(progress=(50, 200)))
        await screen.shows("25%", "50 of 200 events")
        screen.daemon.show(view(progress=(0, 0)))
        await screen.shows("0%", "0 of 0 events")

    run(tmp_path, check)


def test_lost_notes_are_told(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.shows("12 lines of this log were lost")

    run(tmp_path, check, hello(), view(), Lost(count=12))


def test_notes_that_are_told_again_are_not_shown_again(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.shows("connected to poloniex")
        screen.daemon.say(*NOTES, Note(ts_ns=NOW_NS, level="info", text="new"))
        await screen.shows("· new")
        assert screen.text.count("connected to poloniex") == 1

    run(tmp_path, check, hello(), view(), *NOTES, size=LARGE)


def test_without_colours_everything_is_still_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def check(screen: Screen) -> None:
        await screen.shows("▲ +48.97", "▼ -28.77", "▲ BUY", "▼ SELL", "● NORMAL")
        lines = screen.app.screen._compositor.render_strips()
        filters = screen.app._filters
        for line in lines:
            for style in (s.style for s in line.apply_filter(filters[-1], screen.app.screen.styles.background)):
                assert style is None or style.color is None or style.color.is_default

    run(tmp_path, check, hello(), busy_view())


# --- what is asked


@pytest.mark.parametrize(("key", "verb"), [("h", "halt"), ("r", "reduce")])
def test_what_makes_things_safer_is_sent_at_once(key: str, verb: str, tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press(key)
        await screen.until(lambda: screen.daemon.verbs == [verb])
        await screen.shows(f"{verb}: done")

    run(tmp_path, check)


@pytest.mark.parametrize(("key", "verb"), [("f", "flatten"), ("e", "resume")])
@pytest.mark.parametrize(
    ("answer", "is_sent"),
    [(["y"], True), (["n"], False), (["escape"], False), (["enter"], False), (["left", "enter"], True)],
)
def test_what_is_not_is_asked_first(key: str, verb: str, answer: list[str], is_sent: bool, tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press(key)
        await screen.asks()
        assert screen.daemon.verbs == []
        await screen.press(*answer)
        await screen.until(lambda: not isinstance(screen.app.screen, Dialog))
        await screen.press("h")
        await screen.until(lambda: "halt" in screen.daemon.verbs)
        assert screen.daemon.verbs == ([verb, "halt"] if is_sent else ["halt"])

    run(tmp_path, check)


@pytest.mark.parametrize(
    ("answer", "verb"),
    [(["h"], "halt"), (["f"], "flatten"), (["n"], ""), (["escape"], ""), (["enter"], "")],
)
def test_the_kill_key_asks_how_far_and_does_nothing_by_mistake(answer: list[str], verb: str, tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press("K")
        await screen.asks()
        assert screen.daemon.verbs == []
        await screen.press(*answer)
        await screen.until(lambda: not isinstance(screen.app.screen, Dialog))
        await screen.press("r")
        await screen.until(lambda: "reduce" in screen.daemon.verbs)
        assert screen.daemon.verbs == ([verb, "reduce"] if verb else ["reduce"])

    run(tmp_path, check)


def test_every_latch_is_shown_while_it_is_closed(tmp_path: Path) -> None:
    scoped = latch(
        name="losing_streak@strategy:\x1b[31mone",
        scope="strategy:\x1b[31mone",
        cause="losing_streak",
        state=RiskState.REDUCE_ONLY,
        detail="[b]6 in a row",
    )

    async def check(screen: Screen) -> None:
        assert "Latches" not in screen.text
        screen.daemon.show(view(latches=(latch(), scoped)))
        await screen.shows("Latches 2", "■ HALTED drawdown everything since 2026-01-02 03:03:05 UTC", "1250 bps")
        await screen.shows("◐ REDUCE ONLY losing_streak strategy:[31mone since", "[b]6 in a row")
        screen.daemon.show(view())
        await screen.until(lambda: "Latches" not in screen.text)

    run(tmp_path, check, size=LARGE)


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("cancels", ("cancels", "", False)),
        ("drawdown 9874.50", ("drawdown", "9874.50", False)),
        ("losing_streak@strategy:one", ("losing_streak@strategy:one", "", False)),
        ("daily_loss 9874 new", ("daily_loss", "9874", True)),
        ("daily_loss new 9874", ("daily_loss", "9874", True)),
    ],
)
def test_F101_a_latch_is_rearmed_by_typing_its_name(typed: str, asked: tuple[str, str, bool], tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.daemon.show(view(latches=(latch(),)))
        await screen.shows("Latches 1")
        await screen.press("a")
        await screen.asks()
        await screen.shows("HALTED by drawdown: drawdown 1250 bps", "CAUSE[@SCOPE]")
        for letter in typed:
            await screen.press("space" if letter == " " else letter)
        await screen.press("enter")
        await screen.until(lambda: screen.daemon.verbs == ["rearm"])
        sent = only_command(screen.daemon)
        assert (sent.subject, sent.equity, sent.is_new_baseline) == asked
        await screen.shows("rearm: done")

    run(tmp_path, check)


@pytest.mark.parametrize("keys", [["escape"], ["enter"], ["tab", "n"], ["x", "space", "1", "e", "5", "enter"]])
def test_nothing_is_rearmed_by_accident(keys: list[str], tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press("a")
        await screen.asks()
        await screen.shows("No latch is closed.")
        await screen.press(*keys)
        await screen.until(lambda: not isinstance(screen.app.screen, Dialog))
        await screen.press("h")
        await screen.until(lambda: screen.daemon.verbs == ["halt"])

    run(tmp_path, check)


def test_a_refusal_is_shown(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.daemon.reply = Reply(id="", is_ok=False, text="[red]not now")
        await screen.press("h")
        await screen.shows("halt: [red]not now")

    run(tmp_path, check)


def test_help_says_what_the_keys_do(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press("question_mark")
        await screen.shows("reduce only: let through", "detach: leave this screen")
        await screen.press("escape")
        await screen.shows("Positions")

    run(tmp_path, check)


# --- how it is left


def test_detach_leaves_the_daemon_alone(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press("d")
        assert screen.daemon.verbs == []

    assert run(tmp_path, check) is ScreenResult.DETACHED


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
def test_quit_asks_and_can_detach(key: str, tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press(key)
        await screen.asks()
        await screen.press("d")
        await screen.until(lambda: screen.app.return_value is not None)
        assert screen.daemon.verbs == []

    assert run(tmp_path, check) is ScreenResult.DETACHED


@pytest.mark.parametrize("keys", [["s", "y"], ["q", "s"]])
def test_a_stop_ends_with_the_daemon(keys: list[str], tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.press(keys[0])
        await screen.asks()
        await screen.press(keys[1])
        await screen.until(lambda: screen.daemon.verbs == ["stop"])
        await screen.shows("stop: done")
        await screen.daemon.stop()
        await screen.until(lambda: screen.app.return_value is not None)

    assert run(tmp_path, check) is ScreenResult.STOPPED


def test_a_refused_stop_is_no_stop(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.daemon.reply = Reply(id="", is_ok=False, text="not now")
        await screen.press("s")
        await screen.asks()
        await screen.press("y")
        await screen.shows("stop: not now")
        await screen.daemon.stop()
        await screen.shows("daemon gone")
        await screen.press("q")

    assert run(tmp_path, check) is ScreenResult.DAEMON_GONE


def test_a_screen_that_may_not_stop_does_not_offer_it(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        assert "s stop" not in screen.text
        await screen.press("s")
        await screen.pilot.pause()
        assert not isinstance(screen.app.screen, Dialog)
        await screen.press("q")

    assert run(tmp_path, check, may_stop=False) is ScreenResult.DETACHED


# --- a daemon that goes


def test_a_lost_daemon_is_told_and_its_last_values_stay(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        await screen.daemon.stop()
        await screen.shows("daemon gone, retrying", "values of 03:04:05 UTC", "10,061.44")
        assert screen.app.query_one("#board").has_class("-stale")
        await screen.press("h")
        await screen.shows("halt: not sent")
        await screen.daemon.start()
        await screen.until(lambda: "daemon gone" not in screen.text)
        assert not screen.app.query_one("#board").has_class("-stale")
        await screen.press("h")
        await screen.until(lambda: screen.daemon.verbs == ["halt"])

    run(tmp_path, check, hello(), busy_view())


def test_a_screen_waits_for_a_daemon_that_is_not_there_yet(tmp_path: Path) -> None:
    async def main() -> ScreenResult | None:
        daemon = FakeDaemon(tmp_path / "x.sock")
        app = TradingScreen(daemon.path, tmp_path, repaint_s=0.01)
        async with app.run_test(size=SMALL) as pilot:
            screen = Screen(app, pilot, daemon)
            await screen.shows("no daemon on")
            await daemon.start()
            await screen.shows("PAPER")
            await screen.press("d")
        await daemon.stop()
        return app.return_value

    assert asyncio.run(main()) is ScreenResult.DETACHED


def test_the_end_of_a_run_is_no_accident(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.daemon.show(busy_view(feed="ended", progress=(9, 9)))
        await screen.shows("ended", "100%")
        await screen.daemon.stop()
        await screen.shows("the run has ended", "10,061.44")
        assert not screen.app.query_one("#board").has_class("-stale")
        await screen.press("q")

    assert run(tmp_path, check) is ScreenResult.DAEMON_GONE


def test_a_daemon_that_says_nothing_is_suspected(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.app._now_s = lambda: 7.0
        await screen.shows("the daemon has said nothing for 7.0 s")
        screen.daemon.show(view(epoch=2))
        await screen.until(lambda: "said nothing" not in screen.text)

    run(tmp_path, check)


# --- strangers


HOSTILE = [
    "[true, false]",
    "[bold red]x[/] [",
    "[@click=app.bell]x[/]",
    "\x1b[2J\x1b[31mred",
    "\x1b]52;c;aGk=\x07clip",
    "\x9b31m\x90dcs\x9c",
    "\u202etxet\u2066\u200f",
    "line\nbreak\ttab\r",
    "e\u0301\u0301\u0301 \u200b\ufeff",
    "漢字" * 60,
    "x" * 5000,
    "👩‍👩‍👧‍👦🇩🇪",
]


def say_everywhere(screen: Screen, text: str) -> None:
    """Tell the screen `text` in every field that has one."""
    hostile = view(
        feed_detail=text,
        quote_currency=text,
        risk_state=RiskState.HALTED,
        risk_cause=text,
        equity_history=((NOW_NS, Decimal(1)), (NOW_NS, Decimal(2))),
        counters={text: 1},
        markets=(market(symbol=text),),
        positions=(position(symbol=text),),
        orders=(order(symbol=text, strategy=text, client_id=text),),
        fills=(fill(symbol=text, strategy=text, fee_currency=text),),
    )
    note = Note(ts_ns=NOW_NS, level="error", text=f"{ascii(text)[:20]}: {text}")
    screen.daemon.say(hello(exchange=text, version=text), hostile, note)


def is_clean(screen: Screen) -> bool:
    """Return whether nothing on the screen would be obeyed by a terminal."""
    return all(line.isprintable() for line in screen.text.split("\n"))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_text_of_strangers_is_only_text(text: str, tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        say_everywhere(screen, text)
        await screen.shows("Positions 1", "error:")
        assert is_clean(screen)
        screen.daemon.reply = Reply(id="", is_ok=False, text=text)
        await screen.press("h")
        await screen.shows("halt:")
        assert is_clean(screen)
        await screen.press("e")
        await screen.shows("Resume?")
        assert is_clean(screen)
        await screen.press("escape")
        await screen.daemon.stop()
        await screen.shows("daemon gone")
        assert is_clean(screen)

    run(tmp_path, check)


def test_text_of_strangers_is_only_text_on_a_large_screen(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        for text in HOSTILE:
            say_everywhere(screen, text)
            await screen.shows("Positions 1", f"error: {ascii(text)[:20]}")
            assert is_clean(screen)

    run(tmp_path, check, size=LARGE)


def test_research_beside_the_bot_is_shown_until_it_is_over(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        assert "Research" not in screen.text
        screen.daemon.say(research())
        await screen.shows(
            "Research sweep crossover", "15%", "1,500 of 10,000", "2,345/s", "1m33s left", "best 3.21 at 5"
        )
        screen.daemon.say(research(id="8", name="walk", best="", left_s=None))
        await screen.shows("Research walk", "and 1 more")
        screen.daemon.say(research(id="8", is_over=True))
        await screen.shows("Research sweep crossover")
        screen.daemon.say(research(is_over=True))
        await screen.until(lambda: "Research" not in screen.text)

    run(tmp_path, check, size=LARGE)


def test_absurd_research_is_shown_as_it_can_be(tmp_path: Path) -> None:
    async def check(screen: Screen) -> None:
        screen.daemon.say(research(name="x" * 120, done=2**53, total=0, rate=2.0**53, left_s=2.0**53))
        await screen.shows("Research xxx")
        screen.daemon.say(research(name="small", done=9, total=3))
        await screen.shows("Research small", "100%")

    run(tmp_path, check, size=SMALL)
