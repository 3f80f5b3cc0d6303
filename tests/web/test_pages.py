"""HTML is read as Markdown, in a process that ends in time, whatever the page is."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable

import pytest

from legato.core.errors import ToolError
from legato.tools.web import pages
from legato.tools.web.page_worker import page
from legato.tools.web.pages import Page, page_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

URL = "https://example.org/caves/one"


def read(html: str) -> str:
    text: str = page(html, URL, characters=2_000_000)["text"]
    return text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h1>One</h1><p>Two <b>three</b> <em>four</em> <code>five</code>", "# One\n\nTwo **three** *four* `five`"),
        ("<ul><li>a<li>b</ul><ol><li>c</ol>", "- a\n- b\n\n1. c"),
        ("<pre><code>x = 1\ny = 2</code></pre>", "```\nx = 1\ny = 2\n```"),
        ("<blockquote>said</blockquote>", "> said"),
        ("a<script>alert(1)</script><style>p{}</style><template>t</template>b", "ab"),
        ("<nav>menu</nav><div role=navigation>menu</div><p>text", "text"),
        ("<p hidden>no</p><p style='color:red; display : none'>no</p><p aria-hidden=true>no</p>yes", "yes"),
        ("<form>Name <input value=x><button>Go</button><select><option>o</select></form>", "Name"),
        ("<noscript>Without scripts</noscript>", "Without scripts"),
        ("<svg><text>drawn</text></svg><iframe src=x>in</iframe><!-- said -->seen", "seen"),
        ('<a href="two">t</a>', "[t](https://example.org/caves/two)"),
        ('<a href="/two?a=b#c">t</a>', "[t](https://example.org/two?a=b#c)"),
        ('<a href="//other.example">t</a>', "[t](https://other.example)"),
        ('<base href="https://base.example/x/"><a href="y">t</a>', "[t](https://base.example/x/y)"),
        ('<base href="javascript:x"><a href="y">t</a>', "[t](https://example.org/caves/y)"),
        ('<a href="mailto:me@example.org">t</a>', "[t](mailto:me@example.org)"),
        ('<a href="#top">t</a> <a>u</a> <a href="javascript:x()">v</a> <a href="data:,x">w</a>', "t u v w"),
        ('<a href="http://[bad">t</a>', "t"),
        ('<img src=a.png alt="A  dragon"><img src=b.png>', "(image: A dragon)"),
        ("<table><tr><th>A<th>B|C<tr><td>1<td><b>2</b></table>", "| A | B\\|C |\n| --- | --- |\n| 1 | **2** |"),
        ("<table><caption>T</caption><tr><td>1<td>2<tr><td>3</table>", "T\n\n| 1 | 2 |\n| --- | --- |\n| 3 |  |"),
        ("<table><tr><td><p>One</p><p>Two</p></table>", "One\n\nTwo"),
        ("<table><tr><td>x<td><table><tr><td>1<td>2</table></table>", "x\n\n| 1 | 2 |\n| --- | --- |"),
        ("<main>short</main>around", "short\n\naround"),
        (f"<header>around</header><main>{'long ' * 50}</main>", ("long " * 50).strip()),
        ("", ""),
        ("plain", "plain"),
    ],
)
def test_a_page_is_read_as_a_person_reads_it(html: str, text: str) -> None:
    assert read(html) == text


def test_a_title_is_one_line_and_not_in_the_text() -> None:
    made = page(f"<title>\n A &amp; B \n{'c' * 400}</title><p>text", URL, characters=100)
    assert made["title"].startswith("A & B ccc")
    assert len(made["title"]) == 300
    assert made["text"] == "text"


def test_what_is_longer_than_is_kept_is_cut_at_the_end_of_a_line() -> None:
    made = page("<p>line</p>" * 1_000, URL, characters=100)
    assert made["cut"]
    assert made["text"].endswith("\n\nline")
    assert len(made["text"]) <= 100
    assert not page("<p>line</p>", URL, characters=100)["cut"]


def nested(tag: str, depth: int) -> str:
    return f"<{tag}>" * depth + "inside" + f"</{tag}>" * depth


@pytest.mark.parametrize(
    "html",
    [
        nested("div", 20_000),
        nested("b", 3_000),
        nested("blockquote", 3_000),
        nested("ul><li", 3_000),
        "<table><tr><td>" * 1_000 + "inside",
        "<a><p>" * 2_000 + "inside",
        "<!--" * 50_000 + "-->inside",
        "<p " + " ".join(f"a{at}=1" for at in range(20_000)) + ">inside",
        "<table><tr><td colspan=100000000>inside<td>2<tr><td rowspan=100000000>3</table>",
        "<table><tr>" + "<td>inside</td>" * 5_000 + "</table>",
        "<table>" * 2_000 + "inside",
    ],
    ids=lambda html: html[:14],
)
def test_a_hostile_page_is_read(html: str) -> None:
    assert "inside" in read(html)


async def test_the_process_gives_what_the_function_does() -> None:
    html = "<title>Höhle</title><h1>Höhle</h1><table><tr><td>1<td>2</table>"
    assert await page_of(html, URL) == Page(**page(html, URL, characters=100_000))


async def test_a_page_that_takes_too_long_ends_with_its_process() -> None:
    with pytest.raises(ToolError, match=r"cannot be read within 0\.3 s") as caught:
        await page_of("<" * 3_000_000, URL, seconds=0.3)
    assert caught.value.code == "web_unreadable"


async def test_a_page_that_takes_too_much_memory_is_an_error_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pages, "_MEMORY", 60_000_000)
    with pytest.raises(ToolError, match="cannot be read") as caught:
        await page_of("<p>x" * 500_000, URL)
    assert caught.value.code == "web_unreadable"
    assert "MemoryError" in caplog.text


async def test_cancelling_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()
    made: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **named: object) -> None:
            make: Callable[..., None] = super().__init__
            make(*args, **named)
            made.append(self)
            started.set()

    monkeypatch.setattr(subprocess, "Popen", Watched)
    task = asyncio.create_task(page_of("<" * 3_000_000, URL))
    assert await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(made[0].wait, 10) != 0


async def test_five_pages_wait_for_four_places() -> None:
    made = await asyncio.gather(*(page_of(f"<p>{at}", URL) for at in range(5)))
    assert [one.text for one in made] == list("01234")
