"""What the core and its ports refuse."""


class UndecodableError(Exception):
    """Bytes that are no record of ours; `code` says in which way, `text` says it for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"
