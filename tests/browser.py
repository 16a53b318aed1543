"""Headless Chromium, driven through its own debugging protocol: pages as their visitors meet them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: install it to look at the page")
PATIENCE = 400  # seconds: a busy machine may be slow
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars")


class Page:
    """One tab.

    Attributes:
        requests: the addresses that it asked for, where a ``route`` was given.
        route: from an address to the one that it is fetched from instead, which the page does not notice; None for an
            address that cannot be reached.
        errors: what the page threw and did not catch, and dialogs that it opened.
    """

    def __init__(self, channel: aiohttp.ClientWebSocketResponse, route: Callable[[str], str | None] | None) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.route = route
        self._channel, self._numbers = channel, itertools.count()
        self._replies: dict[int, asyncio.Future] = {}
        self._tasks = {asyncio.create_task(self._listen())}

    async def _listen(self) -> None:
        async for message in self._channel:
            found = json.loads(message.data)
            if "id" in found:
                self._replies.pop(found["id"]).set_result(found)
            elif found["method"] == "Fetch.requestPaused":
                self._tasks.add(asyncio.create_task(self._forward(found["params"])))
            elif found["method"] == "Page.javascriptDialogOpening":  # the page would wait for ever
                self.errors.append(f"dialog: {found['params']['message']}")
                self._tasks.add(asyncio.create_task(self.call("Page.handleJavaScriptDialog", accept=False)))
            elif found["method"] == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(found["params"]["exceptionDetails"]))

    async def _forward(self, paused: dict[str, Any]) -> None:
        address, number = paused["request"]["url"], paused["requestId"]
        self.requests.append(address)
        place = self.route(address)
        if place is None:
            await self.call("Fetch.failRequest", requestId=number, errorReason="InternetDisconnected")
        else:
            await self.call("Fetch.continueRequest", requestId=number, url=place)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and what it returns."""
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self._channel.send_json({"id": number, "method": method, "params": params})
        found = await asyncio.wait_for(reply, PATIENCE)
        assert "result" in found, found
        return found["result"]

    async def value(self, expression: str) -> Any:
        """Of a JavaScript expression, or of the promise that it is."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds; it may fail before the page is there."""
        end = time.monotonic() + PATIENCE
        while not await self.value(f"(() => {{ try {{ return Boolean({expression}) }} catch {{}} }})()"):
            assert time.monotonic() < end, f"never: {expression}"
            await asyncio.sleep(0.1)

    async def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)

    async def dark(self) -> None:
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    async def press(self, key: str) -> None:
        """A key, as the browser itself gets it: it moves the focus and chooses what is focused."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        codes = {"Tab": 9, "Enter": 13, "Space": 32}
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=text if key == "Space" else key, code=key,
                windowsVirtualKeyCode=codes[key], **more,
            )  # fmt: skip

    async def choose_file(self, selector: str, path: Path) -> None:
        """As if a person had chosen the file in an ``<input>``."""
        found = await self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        await self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    async def screenshot(self) -> bytes:
        """A PNG of the whole page."""
        image = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(image["data"])


@asynccontextmanager
async def open_page(
    address: str, profile: Path, *, size: tuple[int, int] = (1280, 1100), dark: bool = False,
    route: Callable[[str], str | None] | None = None, before: str = "",
) -> AsyncIterator[Page]:  # fmt: skip
    """A page in a browser of its own.

    Args:
        address: of the page.
        profile: a folder for the browser's files.
        size: width and height of the window in pixels.
        dark: the visitor wants dark colours.
        route: see :class:`Page`.
        before: JavaScript that runs before that of the page.
    """
    browser = subprocess.Popen(
        [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        end, port_file = time.monotonic() + PATIENCE, profile / "DevToolsActivePort"
        while not port_file.is_file() or not port_file.read_text().strip():
            assert browser.poll() is None and time.monotonic() < end, "Chromium did not start"
            await asyncio.sleep(0.2)
        base = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
        async with aiohttp.ClientSession() as session:
            async with session.put(f"{base}/json/new?about:blank") as reply:
                tab = json.loads(await reply.text())
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as channel:
                page = Page(channel, route)
                await page.resize(*size)
                for domain in ("Runtime", "Page", "DOM"):
                    await page.call(f"{domain}.enable")
                if dark:
                    await page.dark()
                if route is not None:
                    await page.call("Fetch.enable")
                if before:
                    await page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
                await page.call("Page.navigate", url=address)
                yield page
    finally:
        browser.terminate()
        browser.wait()
