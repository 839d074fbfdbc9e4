"""Errors of the core and its ports: records that cannot be decoded, and logs of a newer build."""


class UndecodableError(Exception):
    """Bytes that are no record of ftjm. `code` is the reason for programs, `text` the reason for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class NewerLogError(Exception):
    """An upgrade to a newer build was finalised: this build must not continue the log."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {self.expected}, but found {self.found}"
