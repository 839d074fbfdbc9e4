"""The environment variables of a task process. Those that attempts have in common are not set again for each."""

import os
import sys


class Variables:
    """The variables that the process began with, and those of the attempt."""

    def __init__(self) -> None:
        """Note those that there are."""
        self._environ = os.environ
        self._base: dict[str, str] = dict(os.environ)
        self._given: dict[str, str] = {}
        self._data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
        self._expected = dict(self._data)
        self._encoding = sys.getfilesystemencoding()

    def give(self, environment: dict[str, str]) -> None:
        """Set the variables of an attempt, and remove those of the one before."""
        given, data, encoding = self._given, self._data, self._encoding
        if given.keys() != environment.keys():
            variables, base = os.environ, self._base
            for name in given:
                if name not in environment:
                    if name in base:
                        variables[name] = base[name]
                    else:
                        del variables[name]
        for name, value in environment.items():
            if given.get(name) != value:
                # As `os.environ` sets a variable, with fewer calls.
                key, content = name.encode(encoding, "surrogateescape"), value.encode(encoding, "surrogateescape")
                os.putenv(key, content)
                data[key] = content
        self._given = environment
        self._expected = data.copy()

    def restore(self) -> None:
        """Restore the variables as they were given. The next attempt replaces most of them, so they stay till then."""
        os.environ = self._environ  # noqa: B003  (it is the object that maps the variables)
        if self._data != self._expected:
            for name in [name for name in self._data if name not in self._expected]:
                os.unsetenv(name)
                del self._data[name]
            for name, value in self._expected.items():
                if self._data.get(name) != value:
                    os.putenv(name, value)
                    self._data[name] = value
