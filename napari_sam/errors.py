"""The errors that users can meet.

Each carries one sentence: what is wrong and what to do. They subclass the built-in exception a script
would expect, so that ``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "AnnotationError",
    "Cancelled",
    "DeviceError",
    "DeviceWarning",
    "DownloadCancelled",
    "FormatError",
    "FormatWarning",
    "ImageError",
    "ModelError",
    "NapariSamError",
    "PromptError",
    "reason_of",
]


class NapariSamError(Exception):
    """Base class of every error raised on purpose by napari-sam."""


class ImageError(NapariSamError, ValueError):
    """An image that cannot be segmented (wrong shape, empty, unreadable)."""


class PromptError(NapariSamError, ValueError):
    """A prompt that makes no sense for the image (outside it, no area, not a number)."""


class AnnotationError(NapariSamError, ValueError):
    """A command that makes no sense for the annotation, or an annotation file that cannot be read."""


class FormatError(NapariSamError, ValueError):
    """A file of another format that cannot be read or written."""


class FormatWarning(UserWarning):
    """What a format cannot hold, said before it is written."""


class ModelError(NapariSamError, ValueError):
    """A model that is unknown, or a checkpoint that does not fit its architecture."""


class Cancelled(NapariSamError):
    """Work that was cancelled before it was done; nothing has changed."""


class DownloadCancelled(NapariSamError):
    """A download that the user cancelled; what has arrived is kept, and the next one goes on from there."""


class DeviceError(NapariSamError, RuntimeError):
    """A device that is not there, or that ran out of memory."""


class DeviceWarning(UserWarning):
    """A device that failed or is short of memory, so that the work went on elsewhere or in smaller parts."""


def reason_of(error: BaseException) -> str:
    r"""What somebody else's error says, in a few words for a sentence of ours.

    Examples
    --------
    >>> reason_of(OSError("the disk is gone.\nSee the log.")), reason_of(KeyError())
    ('the disk is gone', 'KeyError')
    """
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
