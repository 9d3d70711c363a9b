"""The page against hostile names, foreign code and strangers, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from replicator.dashboard.access import Access
from replicator.dashboard.switch import Order, Refused
from support.pages import PHONE, REGIONS, PageServer, View, link, pipeline, status, viewed

pytestmark = pytest.mark.xdist_group("browser")

US, EU, AP = REGIONS
TOKEN = "token-" * 4
IMAGE = '<img src=x onerror="window.struck=1">'
SCRIPT = "</script><script>window.struck=1</script>"
TURNED = "safe\u202etxt.exe"
NOTHING = "nul\x00byte\x1b[31m"
LONG = "k" * 2_048
HOSTILE = {"image": IMAGE, "script": SCRIPT, "turned": TURNED, "nul": NOTHING, "long": LONG}


def hostile(name: str) -> dict[str, Any]:
    """A status in which everything that can be named is named like this."""
    trouble = link(name, state="retrying", error=name, backlog_age_s=50.0, quarantined=1)
    gap = {"since_us": 1, "reason": name}
    return status(
        pipeline(name, trouble, table=name, mode=name, error=name, gap=gap),
        pipeline(US, link(EU)),
        exposure={name: {"seconds": 1.0, "records": 2}},
        version=name,
        processes=[{"name": name, "state": "unreachable", "age_s": 3.0, "error": name}],
    )


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 900}], ids=["phone", "desk"])
def test_a_name_is_a_text_and_nothing_else(
    browser: Browser, name: str, size: dict[str, int]
) -> None:
    """Nothing is run, loaded or turned round, and the page stays as wide as its window."""
    decided = {
        "at_us": 5,
        "table": name,
        "region": name,
        "key": name,
        "winner": {"version": name, "origin": name, "time_us": 2},
        "loser": {"version": name, "origin": name, "time_us": 1},
    }

    async def newest(limit: int) -> dict[str, Any]:
        return {"total": limit, "conflicts": [decided]}

    with PageServer(conflicts=newest) as server:
        server.status = hostile(name)
        with viewed(browser, server.url, viewport=size) as view:
            view.wait_for("#conflicts-total", "the last 1")
            view.wait_for("#sentence", "behind")
            view.page.locator("summary").click()
            view.wait_for("#counts", "Records of each source")
            assert view.page.evaluate("window.struck") is None
            assert view.page.locator("img, script:not([src]), iframe, style").count() == 0
            assert view.overflow() == 0
            shown = view.page.evaluate("document.body.textContent")
            assert not {"\u202e", "\x00", "\x1b"} & set(shown)
            assert LONG not in shown
            written = {"turned": "⟨202E⟩", "nul": "⟨0000⟩", "long": "(2,048 characters)"}
            for kind, text in written.items():
                assert (text in shown) == (HOSTILE[kind] == name)


def test_foreign_and_inline_code_does_not_run(browser: Browser) -> None:
    """Whatever got into the document, the policy keeps it from running, loading and sending."""
    with PageServer() as server:
        view = View(browser, server.url)
        view.wait_for("#age", "live")
        view.page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.struck = 1";
              const button = document.createElement("button");
              button.setAttribute("onclick", "window.struck = 1");
              const far = document.createElement("script");
              far.src = "http://192.0.2.1/far.js";
              document.body.append(script, button, far);
              button.click();
              return fetch("http://192.0.2.1/").catch(() => null);
            }"""
        )
        assert view.page.evaluate("window.struck") is None
        forbidden = " ".join(view.violations())
        for directive in ("script-src-elem inline", "script-src-attr inline", "connect-src http"):
            assert directive in forbidden
        view.close()


def test_the_page_cannot_be_framed(browser: Browser) -> None:
    """Nobody can lay it under a page of their own and have its buttons pressed."""
    with PageServer() as server, PageServer() as other:
        view = View(browser, other.url)
        view.page.route(
            "**/frame",
            lambda route: route.fulfill(
                content_type="text/html", body=f'<iframe src="{server.url}"></iframe>'
            ),
        )
        view.page.goto(f"{other.url}/frame")
        frame = view.page.frames[-1]
        assert "Replicator" not in frame.content()
        view.close()


# --- the token ----------------------------------------------------------------------------------


class Switchboard:
    """Carries out what comes with the token, by setting the status of a server."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    async def __call__(self, order: Order, authorization: str | None) -> int:
        if authorization != f"Bearer {TOKEN}":
            raise Refused(401, "this is not the token")
        self.orders.append(order)
        return 1


@pytest.fixture
def board() -> Switchboard:
    """Nothing ordered yet."""
    return Switchboard()


@pytest.fixture
def view(browser: Browser, board: Switchboard) -> Iterator[tuple[View, PageServer]]:
    """A page that can pause, with its server."""
    with PageServer(switch=board) as server:
        server.status = status(pipeline(US, link(EU)))
        opened = View(browser, server.url)
        opened.wait_for("#sentence", "The one link is up to date.")
        yield opened, server
        opened.close()


def stored(view: View) -> list[Any]:
    """Everything that a page could have left in the browser."""
    found: list[Any] = view.page.evaluate(
        "[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), "
        "location.href, document.documentElement.outerHTML]"
    )
    return found


def test_a_link_is_paused_and_resumed_with_the_token(
    view: tuple[View, PageServer], board: Switchboard
) -> None:
    """It is asked for once, a wrong one is refused, and it is kept nowhere but in memory."""
    page, server = view
    page.page.get_by_role("button", name="Pause").click()
    page.wait_for("#ask-text", f"Pause {US} → {EU} of orders.")
    assert page.page.evaluate("document.activeElement.id") == "token"
    page.page.keyboard.type("not the token at all")
    page.page.keyboard.press("Enter")
    page.wait_for("#ask-error", "this is not the token")
    assert board.orders == []
    page.page.keyboard.type(TOKEN)
    page.page.keyboard.press("Enter")
    page.page.wait_for_function("() => !document.getElementById('ask').open")
    server.status = status(pipeline(US, link(EU, state="paused"), state="paused"))
    page.wait_for("#sentence", "1 link is paused.")
    page.page.get_by_role("button", name="Resume").click()
    server.status = status(pipeline(US, link(EU)))
    page.wait_for("#sentence", "The one link is up to date.")
    assert [order.paused for order in board.orders] == [True, False]
    assert {(order.table, order.source, order.target) for order in board.orders} == {
        ("orders", US, EU)
    }
    assert not any(TOKEN in text for text in stored(page))
    assert [error for error in page.errors if "401" not in error] == []


def test_without_the_token_nothing_is_paused(
    view: tuple[View, PageServer], board: Switchboard
) -> None:
    """Escape and Cancel give up the order."""
    page, _ = view
    for give_up in ("Escape", "Cancel"):
        page.page.get_by_role("button", name="Pause").click()
        page.wait_for("#ask-text", "Pause")
        if give_up == "Escape":
            page.page.keyboard.press("Escape")
        else:
            page.page.get_by_role("button", name="Cancel").click()
        page.page.wait_for_function("() => !document.getElementById('ask').open")
    assert board.orders == []
    assert page.errors == []


def test_a_process_without_a_token_says_why_it_cannot_pause(browser: Browser) -> None:
    """The line names the setting and the command."""
    with PageServer() as server:
        view = View(browser, server.url)
        view.wait_for("#age", "live")
        view.page.get_by_role("button", name="Pause").click()
        view.page.locator("#token").fill(TOKEN)
        view.page.keyboard.press("Enter")
        view.wait_for("#panel-line", "read-only: set http.token")
        view.close()


def test_an_open_page_asks_for_the_token_before_it_shows_anything(browser: Browser) -> None:
    """A stranger sees an empty page; with the token the figures come."""
    access = Access(host="10.1.2.3", token=TOKEN)
    with PageServer(access=access) as server:
        view = View(browser, server.url)
        view.wait_for("#ask-text", "This page shows its figures to those who have the token.")
        assert view.page.locator("button.cell").count() == 0
        view.page.keyboard.type("x" * 20)
        view.page.keyboard.press("Enter")
        view.page.wait_for_function("() => document.getElementById('ask').open")
        view.page.locator("#token").fill(TOKEN)
        view.page.keyboard.press("Enter")
        view.wait_for("#sentence", "All 6 links are up to date.")
        assert not any(TOKEN in text for text in stored(view))
        view.close()
