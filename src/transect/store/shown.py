"""Where people meet a store: a notebook, and the hub."""

from typing import TYPE_CHECKING, Any

from transect.work.shown import MOST_ROWS, html

if TYPE_CHECKING:
    from transect.store.store import Store


class Shown:
    """What a store shows and does outside of a study."""

    def _repr_html_(self: "Store") -> str:  # pyright: ignore[reportGeneralTypeIssues]
        rows = [
            (i, self.ids[i], self.text(i)[:80], int(self.lengths[i]), int(self.rows[i]))
            for i in range(min(len(self), MOST_ROWS))
        ]
        m = self.manifest
        markup = (
            f"{self.name} on {m['texts']['spec']}: {len(self)} {self.unit}s, {int(self.start[-1]):,} points, "
        )
        markup += f"{len(self.sites)} sites from {self.sites[0]} to {self.sites[-1]}, {m['dtype']['store']}"
        return html(("", "id", self.unit, "tokens", "points"), rows, markup, len(self) - len(rows))

    def push_to_hub(
        self: "Store",  # pyright: ignore[reportGeneralTypeIssues]
        repo: str,
        **options: Any,
    ) -> str:
        """Upload this store as a data set with a card made from its manifest; returns its address.

        Args:
            repo: OWNER/NAME; made where it is not there.
            **options: private, token, revision, message: those of `push`.
        """
        from transect.store.hub import push

        return push(self, repo, **options)
