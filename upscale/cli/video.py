"""The command `upscale video IN OUT`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import shared_options as shared
from upscale.cli.completion import (
    audio_choices,
    codecs,
    containers,
    duplicate_choices,
    networks,
    one_of,
    purposes,
    size_changes,
)
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options, switch
from upscale.cli.video_values import (
    choose,
    container_suffix,
    conversion,
    find_purpose,
    frame_rate,
    inputs_and_output,
    pairs,
    raw_input,
    seconds,
    tracks,
)
from upscale.errors import ExitCode, UsageError
from upscale.files.printable import printable, shell_word
from upscale.options import SMALL_VIDEO_MODEL, VIDEO_MODEL, Options

if TYPE_CHECKING:
    from upscale.jobs.video import VideoSettings
    from upscale.video.raw_frames import RawFormat

_ENCODING, _FRAMES, _PREVIEW = "Encoding", "Frames", "Preview"
_FACTOR = 2
"""Largest scale for which `SMALL_VIDEO_MODEL` is the default network."""

_HINT = (
    "upscaling with {network}, which is fast; -n auto is sharper and takes about 25 times as "
    "long; -n realesr-animevideov3 is for anime"
)

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def video(
    context: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="IN... [OUT]", show_default=False,
                       help="Input: a video, several, folders, numbered images such as "
                       "frames/%05d.png with --fps, or - for Y4M from standard input. Then the "
                       "output: a video (.mp4, .m4v, .mov, .mkv or .webm), a folder, numbered "
                       "images such as out/%05d.png, or - for Y4M to standard output. With "
                       "--preview, an image file."),
    ] = None,
    output: Annotated[
        str | None, output("OUT", "The output, in place of the last word; a new folder ends in /.")
    ] = None,
    format: Annotated[
        str | None,
        option("-f", "--format", metavar="FORMAT", panel=shared.OUTPUT,
               autocompletion=one_of(containers),
               help="Container of videos in a folder: mp4, m4v, mov, mkv or webm. Default: that "
               "of the input; mkv if it cannot be written. For standard output: y4m or raw."),
    ] = None,
    name: Annotated[
        str | None,
        option("--name", metavar="TEMPLATE", panel=shared.OUTPUT,
               help="Name of videos in a folder, for example {stem}_x{scale}. Fields: {stem}, "
               "{suffix} and {folder} of the input, {scale}, {model} and {ext}."),
    ] = None,
    overwrite: shared.Overwrite = None,
    skip_existing: Annotated[
        bool | None,
        switch("--skip-existing", panel=shared.OUTPUT, help="Skip videos whose output exists."),
    ] = None,
    estimate: Annotated[
        bool,
        switch("--estimate", panel=shared.OUTPUT,
               help="Compute a few frames, print how long all of them would take and how large "
               "the output would be, and exit."),
    ] = False,
    scale: shared.Scale = None,
    width: shared.Width = None,
    height: shared.Height = None,
    max_side: shared.MaxSide = None,
    square_pixels: Annotated[
        bool,
        switch("--square-pixels", panel=shared.SIZE,
               help="Make square pixels of oblong ones, as editors and web pages want them."),
    ] = False,
    model: Annotated[
        str | None,
        option("-n", "--model", metavar="NAME|FILE", panel=shared.NETWORK,
               autocompletion=one_of(networks),
               help="Network to use: a name from `upscale models`, a checkpoint file, or auto, "
               "which chooses the sharpest networks by the video and takes about 25 times as "
               f"long. Default: {VIDEO_MODEL}, or {SMALL_VIDEO_MODEL} for -s 2 and less, which are "
               "fast."),
    ] = None,
    tile: shared.Tile = None,
    device: shared.Device = None,
    precision: shared.Precision = None,
    kernels: shared.Kernels = None,
    tta: shared.Tta = None,
    denoise: shared.Denoise = None,
    fidelity: shared.Fidelity = None,
    keep_colour: shared.KeepColour = None,
    face: shared.Face = None,
    face_model: shared.FaceModel = None,
    face_detector: shared.FaceDetector = None,
    face_parser: shared.FaceParser = None,
    face_strength: shared.FaceStrength = None,
    face_min_size: shared.FaceMinSize = None,
    face_debug: shared.FaceDebug = None,
    steady: Annotated[
        str | None,
        option("--steady", metavar="0..1", panel=shared.NETWORK,
               help="Reduce flicker: blend each frame with the one before, moved along with the "
               "picture. 0.5 removes up to 40 % of the flicker, and some detail. Default: 0, off."),
    ] = None,
    purpose: Annotated[
        str | None,
        option("--for", metavar="PURPOSE", panel=_ENCODING, autocompletion=one_of(purposes),
               help=f"Encode for a purpose: {shared.PURPOSES}. Other options of this group go "
               "before it."),
    ] = None,
    codec: Annotated[
        str | None,
        option("--codec", metavar="CODEC", panel=_ENCODING, autocompletion=one_of(codecs),
               help=f"Video codec: {shared.CODECS}. FFmpeg's names, such as libx265 or hevc, work "
               "too. Default: x264; for .webm vp9, and above 8 bits svt-av1."),
    ] = None,
    crf: Annotated[
        float | None,
        option("--crf", metavar="N", panel=_ENCODING,
               help="Constant quality, on the codec's own scale; lower is better."),
    ] = None,
    preset: Annotated[
        str | None,
        option("--preset", metavar="PRESET", panel=_ENCODING,
               help="Speed preset of the codec, for example slow; for prores, the profile."),
    ] = None,
    pixel_format: Annotated[
        str | None,
        option("--pix-fmt", metavar="FORMAT", panel=_ENCODING,
               help="Output pixel format, for example yuv420p10le."),
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        option("--encoder-option", metavar="KEY=VALUE", panel=_ENCODING,
               help="Set another FFmpeg option of the encoder. Can be repeated."),
    ] = None,
    start: Annotated[
        str | None,
        option("--start", metavar="TIME", panel=shared.INPUT,
               help="Start at this time: seconds or [H:]MM:SS, for example 12.5 or 1:02:03."),
    ] = None,
    end: Annotated[
        str | None, option("--end", metavar="TIME", panel=shared.INPUT, help="Stop at this time.")
    ] = None,
    frames: Annotated[
        int | None,
        option("--frames", metavar="N", min=1, panel=shared.INPUT,
               help="Process at most N frames."),
    ] = None,
    fps: Annotated[
        str | None,
        option("--fps", metavar="N", panel=shared.INPUT,
               help="The input is numbered images, or has frames without headers, which are shown "
               "at N frames per second, for example 24 or 30000/1001."),
    ] = None,
    raw_size: Annotated[
        str | None,
        option("--raw-size", metavar="WxH", panel=shared.INPUT,
               help="Standard input has frames without headers of this size; with --raw-format "
               "and --fps."),
    ] = None,
    raw_format: Annotated[
        str | None,
        option("--raw-format", metavar="FORMAT", panel=shared.INPUT,
               help="Pixel format of such frames, for example rgb24, rgb48le or yuv420p."),
    ] = None,
    duplicates: Annotated[
        str,
        option("--duplicates", metavar="exact|near", panel=_FRAMES,
               autocompletion=one_of(duplicate_choices),
               help="Which frames are not computed again: those equal to the frame before, or "
               "also those that differ from it by no more than the noise of a codec, as in anime. "
               "Default: exact."),
    ] = "exact",
    on_change: Annotated[
        str,
        option("--on-change", metavar="scale|pad|first", panel=_FRAMES,
               autocompletion=one_of(size_changes),
               help="What happens to frames whose size differs from the video's: scale stretches "
               "them, pad adds black bars, first stretches them to the size of the first frame. "
               "Default: scale."),
    ] = "scale",
    recursive: shared.Recursive = None,
    deinterlace: Annotated[
        bool,
        switch("--deinterlace", panel=_FRAMES, help="Deinterlace the video before upscaling."),
    ] = False,
    double_rate: Annotated[
        bool,
        switch("--double-rate", panel=_FRAMES,
               help="Deinterlace, and make a frame of each field: twice as many frames, and smooth "
               "motion."),
    ] = False,
    ivtc: Annotated[
        bool,
        switch("--ivtc", panel=_FRAMES,
               help="Inverse telecine: restore the 24 frames a second of which an NTSC disc or "
               "broadcast made 30 interlaced ones."),
    ] = False,
    stream: Annotated[
        int | None,
        option("--stream", metavar="N", min=0, panel=shared.INPUT,
               help="Upscale the video stream with this index in the input. Default: the one "
               "flagged as default, or the first."),
    ] = None,
    audio: Annotated[
        str | None,
        option("--audio", metavar="CHOICE", panel=_ENCODING, autocompletion=one_of(audio_choices),
               help="What happens to sound: copy, aac, opus, flac, none, or auto, which copies it "
               "and converts only what the output cannot hold. Default: auto."),
    ] = None,
    audio_tracks: Annotated[
        str | None,
        option("--audio-tracks", metavar="LIST", panel=_ENCODING,
               help="Keep only these tracks of sound: languages such as eng,ja, or numbers of "
               "streams in the input, such as 1,2. Default: all."),
    ] = None,
    subtitle_tracks: Annotated[
        str | None,
        option("--subtitle-tracks", metavar="LIST", panel=_ENCODING,
               help="Keep only these tracks of subtitles, in the same way, or none. Default: all."),
    ] = None,
    strict: Annotated[
        bool,
        switch("--strict", panel=shared.OUTPUT,
               help="Fail if the output cannot hold all of the input's streams and metadata."),
    ] = False,
    restart: Annotated[
        bool,
        switch("--restart", panel=shared.OUTPUT, help="Discard the work of an interrupted run."),
    ] = False,
    max_pixels: shared.MaxPixels = None,
    cluster: shared.Cluster = None,
    workers: shared.Workers = None,
    shard: shared.Shard = None,
    join: Annotated[
        bool,
        switch("--join", panel=shared.INPUT,
               help="With --shard: join the segments if this share is the last to finish. Without "
               "it, the same command without --shard joins them."),
    ] = False,
    join_into: Annotated[
        str | None,
        option("--join-into", metavar="OUT", panel=shared.OUTPUT,
               help="Join the finished segments of an earlier run into this file, for example with "
               "another container, and compute nothing. Give the other options of that run."),
    ] = None,
    preview: Annotated[
        bool,
        switch("--preview", panel=_PREVIEW,
               help="Write an image instead of a video: the most detailed part of three frames, "
               "before and after. Default name: IN_preview.png."),
    ] = False,
    at: Annotated[
        str | None,
        option("--at", metavar="TIME,...", panel=_PREVIEW,
               help="Preview the frames at these times, for example 0:05,1:30. For a single time, "
               "the whole upscaled frame is written."),
    ] = None,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Upscale videos; audio, subtitles, timestamps and metadata are copied.

    Interrupted? Run the same command again to resume. Until a video is finished, its work is kept
    in a hidden folder next to the output.
    """

    def action(session: Session) -> int:
        from upscale.jobs.video import VideoSettings
        from upscale.video.encoders import VideoEncoding
        from upscale.video.purposes import encoding_for

        options = resolve_options(context, session, model=VIDEO_MODEL)
        default = VIDEO_MODEL
        if options.size.scale is not None and options.size.scale <= _FACTOR:
            default = SMALL_VIDEO_MODEL
            options = resolve_options(context, session, model=default)
        shared.check_faces(context, options)
        if options.faces.faces_only:
            raise UsageError("--faces-only is for images: leave it out, or use --face")
        chosen = find_purpose(purpose)
        encoding = VideoEncoding(codec, crf, preset, pixel_format, pairs(encoder_option or []))
        raw = raw_input(raw_size, raw_format, fps)
        sound = audio or (chosen.audio if chosen else "auto")
        settings = VideoSettings(
            encoding if chosen is None else encoding_for(chosen, encoding),
            start=seconds("--start", start),
            end=seconds("--end", end),
            frames=frames,
            deinterlace=deinterlace,
            strict=strict,
            audio=choose("--audio", sound, audio_choices()),
            audio_tracks=tracks("--audio-tracks", audio_tracks),
            subtitle_tracks=tracks("--subtitle-tracks", subtitle_tracks),
            stream=stream,
            restart=restart,
            overwrite=options.output.overwrite,
            max_pixels=options.run.max_pixels,
            keep_colour=options.engine.keep_colour,
            steady=options.video.steady,
            shard=options.run.shard,
            join=join,
            square_pixels=square_pixels,
            duplicates=choose("--duplicates", duplicates, duplicate_choices()),
            conversion=conversion(deinterlace=deinterlace, double_rate=double_rate, ivtc=ivtc),
            on_change=choose("--on-change", on_change, size_changes()),
            fps=None if fps is None or raw is not None else frame_rate(fps),
        )
        _check_shard(settings)
        shared.check_cluster(options)
        times = tuple(seconds("--at", time) for time in at.split(",")) if at else ()
        if cluster is not None:
            _check_cluster(preview=preview, estimate=estimate, fps=fps)
        if times and not preview:
            raise UsageError("--at needs --preview")
        inputs, target = inputs_and_output(names or [], output)
        if join_into is not None:
            work = None if target is None else Path(target)
            settings = replace(settings, only_join=True, work=work)
            target = join_into
        naming = _Naming(name, format, chosen.suffix if chosen else None)
        is_default = model is None and options.engine.model == default
        hint = _HINT.format(network=default) if is_default else None
        if raw is not None and list(inputs) != ["-"]:
            raise UsageError("--raw-size and --raw-format are for standard input: give - as IN")
        request = _Request(inputs, target, settings, options, naming, hint, estimate, raw)
        return request.preview(session, times) if preview else request.upscale(session)

    return action


@dataclass(frozen=True, slots=True)
class _Naming:
    """Names of outputs in a folder, as far as the user chose them.

    Attributes:
        template: Template of the names.
        format: Container of the videos, or format of a pipe.
        usual: Suffix for the purpose that the user named.
    """

    template: str | None
    format: str | None
    usual: str | None

    @property
    def suffix(self) -> str | None:
        """The suffix of videos, such as `.mp4`; None for that of the input."""
        return container_suffix(self.format) or self.usual

    def check_unused(self) -> None:
        """Check that names are chosen only where they have an effect."""
        for flag, value in (("--name", self.template), ("--format", self.format)):
            if value is not None:
                raise UsageError(f"{flag} needs a folder as output: the output is named here")


@dataclass(frozen=True, slots=True)
class _Request:
    """A checked command line.

    Attributes:
        inputs: Videos and folders.
        output: Output, or folder of outputs; None without one.
        settings: Settings of each video.
        options: Options that are shared with other commands.
        naming: Names of outputs in a folder.
        hint: Remark on the choice of the network; None for none.
        is_estimate: Whether to print what the work would take, in place of doing it.
        raw: Format of frames without headers from standard input; None for other inputs.
    """

    inputs: Sequence[str]
    output: str | None
    settings: VideoSettings
    options: Options
    naming: _Naming
    hint: str | None
    is_estimate: bool
    raw: RawFormat | None = None

    def preview(self, session: Session, times: tuple[Fraction, ...]) -> int:
        """Write a preview of the frames at some times, and return the exit code."""
        from upscale.cli.video_run import preview_video

        source, output = Path(self.inputs[0]), self.output
        if len(self.inputs) > 1 or (source.is_dir() and self.settings.fps is None):
            raise UsageError("--preview takes one video")
        target = None if output is None else Path(output)
        return preview_video(session, source, target, self.settings, self.options, times=times)

    def upscale(self, session: Session) -> int:
        """Upscale the inputs, and return the exit code."""
        from upscale.cli.video_batch import skip_if_done, upscale_batch
        from upscale.cli.video_estimate import estimate_one
        from upscale.cli.video_run import upscale_video
        from upscale.jobs.video_batch import is_batch

        if self.output is None:
            raise _missing_output(self.inputs)
        settings, options, output = self.settings, self.options, Path(self.output)
        if settings.only_join:
            self._check_join()
        if "-" in self.inputs or self.output == "-":
            return self._through_pipes(session)
        is_sequence = settings.fps is not None
        if is_sequence and len(self.inputs) > 1:
            raise UsageError("--fps takes one folder or pattern of numbered images")
        if is_sequence or not is_batch(self.inputs, self.output):
            self.naming.check_unused()
            source = Path(self.inputs[0])
            if skip_if_done(session, source, output, options):
                return int(ExitCode.DONE)
            if self.is_estimate:
                estimate_one(session, source, output, settings, options, hint=self.hint)
                return int(ExitCode.DONE)
            return upscale_video(session, source, output, settings, options, hint=self.hint)
        return upscale_batch(
            session,
            self.inputs,
            output,
            settings,
            options,
            template=self.naming.template,
            suffix=self.naming.suffix,
            hint=self.hint,
            estimate=self.is_estimate,
        )

    def _check_join(self) -> None:
        """Check that `--join-into` names one file for one input."""
        is_several = len(self.inputs) > 1 or Path(self.inputs[0]).is_dir()
        has_pipe = "-" in (*self.inputs, self.output)
        if has_pipe or self.is_estimate or (is_several and self.settings.fps is None):
            raise UsageError("--join-into takes one input and one output file")

    def _through_pipes(self, session: Session) -> int:
        """Upscale with `-` as the input or the output."""
        from upscale.cli.video_pipe import pipe_video, stored_input
        from upscale.jobs.video_batch import is_batch

        if len(self.inputs) > 1:
            raise UsageError("-: a pipe takes one video")
        if self.is_estimate:
            raise UsageError("--estimate needs files as input and output, not -")
        if self.output == "-":
            if self.options.run.cluster is not None:
                raise UsageError("--cluster needs an output file, not -")
            return pipe_video(
                session,
                self.inputs[0],
                self.settings,
                self.options,
                format=self.naming.format,
                hint=self.hint,
                raw=self.raw,
            )
        if self.settings.fps is not None or is_batch(self.inputs, self.output or ""):
            raise UsageError("-: standard input needs an output file, not a folder, and no --fps")
        with stored_input(session, self.raw, self.settings.max_pixels) as stored:
            return replace(self, inputs=[str(stored)], raw=None).upscale(session)


def _missing_output(inputs: Sequence[str]) -> UsageError:
    """Return the error for a command without an output, after looking at the input."""
    from upscale.jobs.inputs import reject_image

    source = Path(inputs[0])
    if source.is_dir():
        return UsageError(f"{printable(source)}: a folder as input needs -o FOLDER for its results")
    reject_image(source)
    example = f"{shell_word(source)} {shell_word(f'{source.stem}_x4.mp4')}"
    return UsageError(f"OUT is missing, as in: upscale video {example}; or use --preview")


def _check_shard(settings: VideoSettings) -> None:
    if settings.join and settings.shard is None:
        raise UsageError("--join needs --shard: without it, all segments are computed and joined")
    if settings.restart and settings.shard is not None:
        raise UsageError(
            "--restart and --shard exclude each other: it would discard the work of other shards; "
            "remove the hidden folder before the first of them starts"
        )


def _check_cluster(*, preview: bool, estimate: bool, fps: str | None) -> None:
    """Check that `--cluster` is given only where workers compute."""
    if preview:
        raise UsageError(
            "--preview and --cluster exclude each other: a preview is computed on this machine"
        )
    if estimate:
        raise UsageError(
            "--estimate and --cluster exclude each other: an estimate is that of this machine"
        )
    if fps is not None:
        raise UsageError("--fps and --cluster exclude each other: workers read videos only")
