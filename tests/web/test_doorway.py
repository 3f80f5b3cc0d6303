"""Which URLs are asked for, and where a redirect may lead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from legato.core.errors import ToolError
from legato.tools.web.doorway import Doorway


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org/", "begins with http:// or https://"),
        ("file:///etc/passwd", "begins with http:// or https://"),
        ("javascript:alert(1)", "begins with http:// or https://"),
        ("gopher://example.org/", "begins with http:// or https://"),
        ("data:text/html,hi", "begins with http:// or https://"),
        ("example.org/page", "begins with http:// or https://"),
        ("//example.org/", "begins with http:// or https://"),
        ("", "begins with http:// or https://"),
        ("http://", "names no host"),
        ("http:///page", "names no host"),
        ("http://me:secret@example.org/", "leave out what stands before the @"),
        ("http://me@example.org/", "leave out what stands before the @"),
        ("http://8.8.8.8@127.0.0.1/", "leave out what stands before the @"),
        ("http://example.org:22/", "port 22 is not fetched"),
        ("http://example.org:0/", "port"),
        ("http://example.org:70000/", "no URL"),
        ("http://example.org:x/", "no URL"),
        ("http://exa mple.org/", "no host name"),
        ("http://example.org\\@127.0.0.1/", "no"),
        ("http://[::1", "no URL"),
        ("http://127.0.0.1/", "127.0.0.1 is loopback"),
        ("http://127.0.0.1:8420/v1/turns", "127.0.0.1 is loopback"),
        ("http://0.0.0.0/", "0.0.0.0 is unspecified"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is of a metadata service"),
        ("http://[::1]/", "::1 is loopback"),
        ("http://[::ffff:127.0.0.1]/", "is loopback"),
        ("http://[::ffff:7f00:1]/", "is loopback"),
        ("http://[fe80::1%25eth0]/", "no"),
        ("http://[fd00::1]/", "is private"),
        ("http://127.1/", "is a number"),
        ("http://127.0.1/", "is a number"),
        ("http://2130706433/", "is a number"),
        ("http://0x7f000001/", "is a number"),
        ("http://0X7F.0.0.1/", "is a number|is loopback"),
        ("http://0x7f.0x0.0x0.0x1/", "is a number"),
        ("http://017700000001/", "is a number"),
        ("http://0177.0.0.1/", "is a number"),
        ("http://127.0.0.1./", "is a number"),
        ("http://127.0.0.01/", "is a number"),
        ("http://①②⑦.⓪.⓪.①/", "is loopback"),
        ("http://127。0。0。1/", "is loopback"),
        ("http://%31%32%37.0.0.1/", "no host name|is loopback"),
        ("http://localhost/", "localhost is a local name"),
        ("http://LOCALHOST./", "is a local name"),
        ("http://app.localhost:8420/", "is a local name"),
        ("http://printer.local/", "is a local name"),
        ("http://metadata.google.internal/", "is a local name"),
        ("http://router.lan/", "is a local name"),
        (f"http://example.org/{'a' * 2048}", "limit is 2048"),
    ],
)
def test_what_is_not_fetched_is_refused_before_anything_is_asked(url: str, message: str) -> None:
    with pytest.raises(ToolError, match=message) as caught:
        Doorway().url(url)
    assert caught.value.code == "web_refused"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://example.org", "http://example.org"),
        ("https://example.org/a?b=c#d", "https://example.org/a?b=c"),
        ("  https://example.org/  ", "https://example.org/"),
        ("HTTPS://EXAMPLE.ORG/A", "https://example.org/A"),
        ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
        ("https://example.org:8443/", "https://example.org:8443/"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700:4700::1111]/", "http://[2606:4700:4700::1111]/"),
    ],
)
def test_what_is_fetched_is_asked_for_without_its_fragment(url: str, asked: str) -> None:
    assert str(Doorway().url(url)) == asked


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_sentence(text: str) -> None:
    for url in (text, f"http://{text}", f"https://example.org{text}"):
        try:
            checked = Doorway().url(url)
        except ToolError:
            continue
        assert checked.scheme in {"http", "https"}


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("/b", "https://example.org/b"),
        ("b?c#d", "https://example.org/x/b?c"),
        ("//other.example/b", "https://other.example/b"),
        ("https://other.example", "https://other.example"),
    ],
)
def test_a_redirect_is_followed_from_where_it_stands(location: str, there: str) -> None:
    assert str(Doorway().redirect(URL("https://example.org/x/a"), location)) == there


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://example.org/", "from https to http://example.org/"),
        ("file:///etc/passwd", "begins with http"),
        ("https://169.254.169.254/", "is of a metadata service"),
        ("https://me:secret@example.org/", "before the @"),
        ("https://localhost/", "is a local name"),
        ("https://[::1", "no URL"),
        ("https://[::ffff:10.0.0.1]/", "is private"),
    ],
)
def test_a_redirect_is_checked_like_the_first_url(location: str, message: str) -> None:
    with pytest.raises(ToolError, match=message) as caught:
        Doorway().redirect(URL("https://example.org/"), location)
    assert caught.value.message.startswith("example.org redirects")
    assert "secret" not in caught.value.message


def test_networks_that_are_allowed_are_fetched_and_no_others() -> None:
    doorway = Doorway(allow_private=["10.1.0.0/16", "::1"])
    assert doorway.url("http://10.1.2.3/").host == "10.1.2.3"
    assert doorway.url("http://[::1]:8420/").port == 8420
    assert doorway.url("http://localhost/").host == "localhost"
    assert str(doorway.address("localhost", "::1")) == "::1"
    with pytest.raises(ToolError, match=r"10\.2\.0\.1 is private"):
        doorway.url("http://10.2.0.1/")
    with pytest.raises(ToolError, match=r"localhost is at 127\.0\.0\.1, which is loopback"):
        doorway.address("localhost", "127.0.0.1")


def test_a_name_that_is_allowed_may_be_private_and_is_never_a_metadata_service() -> None:
    doorway = Doorway(allow_hosts=["wiki.corp.example", "intranet"])
    assert doorway.url("http://Wiki.Corp.Example./").scheme == "http"
    assert doorway.url("http://intranet/").host == "intranet"
    for text in ("10.0.0.8", "127.0.0.1", "fd00::8", "8.8.8.8"):
        assert str(doorway.address("wiki.corp.example", text)) == text
    for text in ("169.254.169.254", "fe80::1", "0.0.0.0", "168.63.129.16"):
        with pytest.raises(ToolError, match="is at"):
            doorway.address("wiki.corp.example", text)
    with pytest.raises(ToolError, match="evil"):
        doorway.address("evil.example", "10.0.0.8")
