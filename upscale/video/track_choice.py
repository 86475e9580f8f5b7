"""Choose the tracks of sound and subtitles of an output, by number or language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from av.stream import Stream

from upscale.errors import UsageError, VideoError
from upscale.files.printable import printable


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


_BIBLIOGRAPHIC = _pairs(
    "alb=sqi arm=hye baq=eus bur=mya chi=zho cze=ces dut=nld fre=fra geo=kat ger=deu gre=ell "
    "ice=isl mac=mkd mao=mri may=msa per=fas rum=ron slo=slk tib=bod wel=cym"
)
"""The other codes of ISO 639-2, which Matroska and FFmpeg use."""

_SHORT = _pairs(
    "af=afr ar=ara be=bel bg=bul bn=ben bs=bos ca=cat cs=ces cy=cym da=dan de=deu el=ell "
    "en=eng es=spa et=est eu=eus fa=fas fi=fin fr=fra ga=gle gl=glg he=heb hi=hin hr=hrv "
    "hu=hun hy=hye id=ind is=isl it=ita ja=jpn ka=kat kk=kaz km=khm kn=kan ko=kor lo=lao "
    "lt=lit lv=lav mk=mkd ml=mal mn=mon mr=mar ms=msa my=mya ne=nep nl=nld no=nor pa=pan "
    "pl=pol pt=por ro=ron ru=rus si=sin sk=slk sl=slv sq=sqi sr=srp sv=swe sw=swa ta=tam "
    "te=tel th=tha tl=tgl tr=tur uk=ukr ur=urd uz=uzb vi=vie zh=zho zu=zul"
)
"""Codes of ISO 639-1, and those of ISO 639-2."""

_NO_LANGUAGE = "und"


@dataclass(frozen=True, slots=True)
class TrackChoice:
    """Tracks of one type that a user wants.

    Attributes:
        numbers: Indices of streams in the input.
        languages: Languages, as ISO 639-2 codes; `und` for tracks without one.
    """

    numbers: frozenset[int] = frozenset()
    languages: frozenset[str] = frozenset()

    def includes(self, stream: Stream) -> bool:
        """Return whether a stream is wanted."""
        return stream.index in self.numbers or language_of(stream) in self.languages


def parse_tracks(flag: str, value: str) -> TrackChoice:
    """Parse a list of tracks.

    Args:
        flag: Name of the option, for messages.
        value: Numbers and languages with commas between them, or `none`.

    Raises:
        UsageError: A word is neither.

    Example:
        >>> choice = parse_tracks("--audio-tracks", "1,de")
        >>> sorted(choice.numbers), sorted(choice.languages)
        ([1], ['deu'])
    """
    if value == "none":
        return TrackChoice()
    numbers, languages = set[int](), set[str]()
    for word in value.split(","):
        if word.isascii() and word.isdigit():
            numbers.add(int(word))
        elif word.isascii() and word.isalpha() and len(word) in (2, 3):
            languages.add(_language(word))
        else:
            raise UsageError(
                f"{flag} {value}: {word or 'an empty word'} is no stream number and no language;"
                " use, for example, 1,2 or eng,ja, or none"
            )
    return TrackChoice(frozenset(numbers), frozenset(languages))


def language_of(stream: Stream) -> str:
    """Return the language of a stream as a code of ISO 639-2; `und` without one."""
    return _language((stream.language or _NO_LANGUAGE).partition("-")[0])


def _language(code: str) -> str:
    code = code.lower()
    return _SHORT.get(code) or _BIBLIOGRAPHIC.get(code, code)


def check_tracks(
    path: Path, streams: Iterable[Stream], kind: str, choice: TrackChoice | None
) -> None:
    """Check that all chosen numbers are tracks of a type, and that any track is chosen.

    Args:
        path: File, for messages.
        streams: Its streams.
        kind: Type of the tracks, "audio" or "subtitle".
        choice: Choice of the user; None without one.

    Raises:
        VideoError: A number is no such track, or none has one of the languages.
    """
    if choice is None or choice == TrackChoice():
        return
    tracks = [each for each in streams if each.type == kind]
    missing = choice.numbers - {each.index for each in tracks}
    if missing:
        number = min(missing)
        raise VideoError(
            f"{printable(path)}: stream {number} is no {kind} track; {_listed(kind, tracks)}"
        )
    if not any(map(choice.includes, tracks)):
        languages = ", ".join(sorted(choice.languages))
        raise VideoError(
            f"{printable(path)}: has no {kind} track in {languages}; {_listed(kind, tracks)}"
        )


def _listed(kind: str, tracks: Sequence[Stream]) -> str:
    if not tracks:
        return f"it has no {kind} tracks"
    listed = ", ".join(f"{each.index} ({language_of(each)})" for each in tracks)
    return f"choose among {listed}"
