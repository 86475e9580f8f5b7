"""Make full frames of fields with FFmpeg's filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import Literal

from av.filter import Graph
from av.video.frame import VideoFrame as AVFrame

from upscale.video.info import VideoInfo
from upscale.video.pyav import fraction

Deinterlacing = Literal["frame", "field", "ivtc"]
"""One frame for each pair of fields, one for each field, or the frames before a telecine."""

TELECINE_CYCLE = Fraction(4, 5)
"""Frames of a film, and those that a telecine makes of them."""

_Filter = tuple[str, dict[str, str]]


def deinterlaced(
    video: VideoInfo, frames: Iterable[tuple[int, AVFrame]], kind: Deinterlacing = "frame"
) -> Iterator[tuple[Fraction, AVFrame]]:
    """Filter the frames of a video.

    Args:
        video: The video before filtering.
        frames: Times in units of its time base, and planar frames; with `ivtc`, from the beginning.
        kind: Kind of filtering.

    Yields:
        Times in seconds, and frames.
    """
    graph: Graph | None = None
    start = Fraction(0)
    shift: Fraction | None = Fraction(0) if kind != "ivtc" else None
    for pts, frame in chain(frames, [(0, None)]):
        if frame is not None:
            frame.pts, frame.time_base = pts, video.time_base
            if graph is None:
                graph, start = _graph(video, frame, kind), pts * video.time_base
        if graph is None:
            return
        graph.vpush(frame)
        for time, result in _pull(graph):
            # The filters round the first time to a frame.
            shift = start - time if shift is None else shift
            yield time + shift, result


def _graph(video: VideoInfo, frame: AVFrame, kind: Deinterlacing) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=video.time_base
    )
    nodes = [graph.add(name, **options) for name, options in _filters(video, kind)]
    graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    return graph


def _filters(video: VideoInfo, kind: Deinterlacing) -> Sequence[_Filter]:
    if kind == "ivtc":
        return (
            ("fps", {"fps": str(video.rate)}),
            ("fieldmatch", {}),
            ("bwdif", {"mode": "send_frame", "deint": "interlaced"}),
            ("decimate", {}),
        )
    # Interlaced videos often do not flag each frame, unless they flag some as progressive.
    deint = "interlaced" if video.progressive else "all"
    return (("bwdif", {"mode": f"send_{kind}", "parity": "auto", "deint": deint}),)


def _pull(graph: Graph) -> Iterator[tuple[Fraction, AVFrame]]:
    # Nothing else means that the graph needs another frame, or has ended.
    with suppress(BlockingIOError, EOFError):
        while True:
            frame = graph.vpull()
            yield (frame.pts or 0) * (fraction(frame.time_base) or Fraction(0)), frame
