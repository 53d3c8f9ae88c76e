"""A person at a browser, without the browser: signs in and allows, in the forms of the login and consent pages."""

import re
import sys
from html import unescape
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, Request, build_opener


class NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def sign_in(url: str, username: str, password: str) -> str:
    """Opens an authorization URL and returns the callback URL that the browser would go to."""
    opener = build_opener(HTTPCookieProcessor(CookieJar()), NoRedirect)
    here = urlsplit(url).netloc
    form = None
    for _ in range(10):
        data = urlencode(form).encode() if form else None
        try:
            answer = opener.open(Request(url, data=data), timeout=20)
            html, location = answer.read().decode(), None
        except HTTPError as answer:
            html, location = answer.read().decode(), answer.headers.get("Location")
            if location is None:
                raise RuntimeError(f"{url}: {answer.code}\n{html}") from None
        if location:
            url, form = urljoin(url, location), None
            if urlsplit(url).netloc != here:
                return url
            continue
        action = unescape(re.search(r'<form [^>]*action="([^"]*)"', html).group(1))
        inputs = [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in re.findall(r"<input ([^>]*)>", html)]
        form = {tag["name"]: unescape(tag["value"]) for tag in inputs if tag.get("type") == "hidden"}
        if action == "/login":
            form |= {"username": username, "password": password}
        elif action == "/login/consent":
            form |= {"decision": "allow"}
        else:
            raise RuntimeError(f"{url} leads nowhere:\n{html}")
        url = urljoin(url, action)
    raise RuntimeError(f"{url}: too many steps")


if __name__ == "__main__":
    print(sign_in(*sys.argv[1:4]))
