"""The one error a user sees: what was asked, the limit that was met, and which option to change.

Anything else that escapes is our bug and keeps its traceback.
"""


class TransectError(Exception):
    """The user's input cannot be honoured; `fix` says what to change. The command line prints both and exits
    with 2."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(f"{message} {fix}".strip())
        self.message, self.fix = message, fix

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.message, self.fix)
