"""What a browser does of signing in: forms, redirects and cookies."""

from __future__ import annotations

import ssl
import urllib.parse
import urllib.request
from http.cookiejar import Cookie, CookieJar

__all__ = ["Person"]


class Person:
    """Somebody with a name, a password and cookies of their own.

    Args:
        url: of the proxy, with the hub's base URL, without a slash at its end.
        name: of the user.
        context: what HTTPS is trusted by.
    """

    #: seconds that one request may take
    DEADLINE = 30.0

    def __init__(self, url: str, name: str, context: ssl.SSLContext | None = None) -> None:
        self.url, self.name = url, name
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies),
            urllib.request.HTTPSHandler(context=context),
        )

    def fetch(self, path: str, form: dict[str, str] | None = None) -> tuple[str, str]:
        """GET a path, or POST a form to it; returns the address in the end, and the page.

        Raises:
            OSError: the answer in the end is no 2xx, or none came.
        """
        body = None if form is None else urllib.parse.urlencode(form).encode()
        url = self.url + urllib.parse.quote(path)
        with self._opener.open(url, body, timeout=self.DEADLINE) as answer:
            return answer.url, answer.read().decode()

    def sign_in(self) -> None:
        """Sign in at the hub."""
        self.fetch("/hub/login")
        form = {"username": self.name, "password": "password", "_xsrf": self.cookie("_xsrf").value}
        where, _ = self.fetch("/hub/login", {key: value or "" for key, value in form.items()})
        assert "/hub/login" not in where, f"{self.name} is not signed in: {where}"

    def cookie(self, name: str) -> Cookie:
        """The hub's cookie of that name."""
        found = [one for one in self.cookies if one.name == name and one.path.endswith("/hub/")]
        assert found, f"no cookie {name} of the hub: {list(self.cookies)}"
        return found[0]
