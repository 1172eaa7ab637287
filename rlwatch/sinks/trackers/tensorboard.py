"""TensorBoard: a writer that the run has, or one of our own in the run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlwatch.sinks.trackers.base import Tracker, TrackerError


class TensorBoardSink(Tracker):
    """Writes scalars and, under the tab Text, alerts.

    writer: a `SummaryWriter` of torch or tensorboardX, or anything with `add_scalar`, `add_text` and `flush`.
    own: whether to close it at the end.
    """

    def __init__(self, writer: Any, own: bool = False, *, on_trouble: Callable[[str], object] = str) -> None:
        super().__init__(on_trouble)
        self._to, self._own = writer, own

    @classmethod
    def found(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...] | None:
        """The writer that an adapter knows of: TensorBoard itself does not tell which are open."""
        writer = given() if callable(given) else given
        return None if writer is None else (writer,)

    @classmethod
    def opened(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...]:
        """The adapter's writer, else one of our own in `<run>/tensorboard`."""
        if (arguments := cls.found(given, run_dir)) is not None:
            return arguments
        if run_dir is None:
            raise TrackerError("there is no writer, and no run folder for one: pass TensorBoardSink(writer) in `sinks`")
        return OwnWriter(run_dir / "tensorboard"), True

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """A point each."""
        if self._is_closed():
            return
        for name, value in values.items():
            self._to.add_scalar(name, value, step)

    def mark(self, title: str, text: str, level: str, step: int) -> None:
        """A text, in Markdown."""
        if self._is_closed():
            return
        lines = "  \n".join(text.splitlines())
        self._to.add_text("rlwatch/alerts", f"**{level}: {title}**  \n{lines}", step)
        self._to.flush()

    def finish(self, text: str, step: int) -> None:
        """Flush; close what is ours."""
        if not self._is_closed():
            self._to.flush()
        if self._own:
            self._to.close()

    def _is_closed(self) -> bool:
        """Whether the user has closed it: a `SummaryWriter` would open another file."""
        return getattr(self._to, "all_writers", True) is None


class OwnWriter:
    """The part of a `SummaryWriter` that is needed, on tensorboard's own file writer: no torch.

    Raises:
        TrackerError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
            from tensorboard.plugins.text import metadata
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise TrackerError("tensorboard is not installed: pip install tensorboard") from None
        self._event, self._summary, self._tensor = event_pb2.Event, summary_pb2.Summary, tensor_pb2.TensorProto
        self._text = metadata.create_summary_metadata(display_name="", description="")
        self._file = EventFileWriter(str(folder))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """A point."""
        self._add(self._summary.Value(tag=tag, simple_value=value), step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """A text."""
        tensor = self._tensor(dtype="DT_STRING", string_val=[text.encode()])
        self._add(self._summary.Value(tag=tag, metadata=self._text, tensor=tensor), step)

    def flush(self) -> None:
        """Write what is buffered."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, value: Any, step: int) -> None:
        summary = self._summary(value=[value])
        self._file.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
