"""Points on their way from an accelerator: those of one pass are written while the next one runs."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


class Points(NamedTuple):
    """Rows of one site as they are stored, their largest |x|, and the values they were made from."""

    site: str
    row: int
    stored: "torch.Tensor"
    peak: "torch.Tensor"
    value: "torch.Tensor"


class Landing:
    """What has left the model and is not written yet. Where the model is on CUDA, at most two passes wait:
    the one that runs, and the one before it. Anywhere else nothing waits."""

    def __init__(self, device: Any) -> None:
        import torch

        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.arriving: list[Points] = []
        self.passed: list[Points] = []
        self.event: Any = None

    def begin(self) -> None:
        """A pass begins: what an interrupted one has left is dropped."""
        self.arriving = []

    def end(self) -> list[Points]:
        """A pass has been asked for: the points of the one before it, in this machine's memory."""
        landed = self._bring()
        if self.stream is not None:
            self.passed, self.event = self.arriving, _recorded(self.stream.device)
        return landed

    def rest(self) -> list[Points]:
        """The points of the last pass."""
        landed = self._bring()
        self.passed = []
        return landed

    def _bring(self) -> list[Points]:
        import torch

        if self.stream is None or not self.passed:
            return []
        self.stream.wait_event(self.event)
        landed = []
        with torch.cuda.stream(self.stream):
            peaks = torch.stack([points.peak.float() for points in self.passed]).cpu()
            for points, peak in zip(self.passed, peaks, strict=True):
                here = torch.empty(points.stored.shape, dtype=points.stored.dtype, pin_memory=True)
                landed.append(points._replace(stored=here.copy_(points.stored, non_blocking=True), peak=peak))
        self.stream.synchronize()
        return landed


def _recorded(device: Any) -> Any:
    """An event behind everything that has been asked of the device so far."""
    import torch

    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
