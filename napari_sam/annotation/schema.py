"""An annotation as JSON, and back: the format of docs/annotation-file.md. Nothing here touches a file."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from napari_sam.annotation.candidate_table import entry_of
from napari_sam.annotation.fields import Field
from napari_sam.annotation.image_identity import ImageIdentity
from napari_sam.annotation.lineage import has_cycle
from napari_sam.annotation.mask_table import MaskTable, read_masks
from napari_sam.annotation.plane import Plane
from napari_sam.annotation.reading import AS_DRAWN, Reader
from napari_sam.annotation.records import Answer, ObjectClass, SamObject
from napari_sam.annotation.state import Snapshot
from napari_sam.errors import AnnotationError
from napari_sam.inference.prompts import Prompts

__all__ = ["FORMAT", "VERSION", "Info", "from_json", "object_to_json", "to_json"]

FORMAT = "napari-sam annotation"
VERSION = 1
"""The newest version of the format that is known here, and the one that is written."""


@dataclass(frozen=True, slots=True)
class Info:
    """How an annotation was written.

    Attributes
    ----------
    version : int
        Of the format.
    program : str
        Version of napari-sam.
    created : str
        ISO 8601, in UTC.
    """

    version: int
    program: str
    created: str


def to_json(
    snapshot: Snapshot, identity: ImageIdentity | None = None, *, created: str | None = None
) -> dict[str, Any]:
    """An annotation as what :func:`json.dumps` takes.

    Parameters
    ----------
    snapshot : Snapshot
    identity : ImageIdentity, optional
        Of its image.
    created : str, optional
        ISO 8601; now, if not given.

    Notes
    -----
    Of what automatic runs found, it is said where it is: the arrays are not JSON, and are in files beside it.
    """
    from napari_sam import __version__

    table = MaskTable()
    image = None
    if identity is not None:
        image = {"shape": list(identity.shape), "dtype": identity.dtype, "digest": identity.digest}
    found = [entry_of(*one, number) for number, one in enumerate(snapshot.candidates.items())]
    return {
        "format": FORMAT,
        "version": VERSION,
        "program": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds") if created is None else created,
        "image": image,
        "shape": [int(n) for n in snapshot.shape],
        "classes": [{"id": int(c.id), "name": c.name, "colour": c.colour} for c in snapshot.classes],
        "current": int(snapshot.current),
        "next_id": int(snapshot.next_id),
        "next_uid": int(snapshot.next_uid),
        "opened": None if snapshot.opened is None else _object(snapshot.opened, table),
        "objects": [_object(item, table) for item in snapshot.objects],
        "masks": table.entries,
        # Only where there are some, as in files of older versions.
        **({"candidates": found} if found else {}),
    }


def object_to_json(item: SamObject, table: MaskTable) -> dict[str, Any]:
    """One object and its masks, which come into `table`: a new one."""
    return {"object": _object(item, table), "masks": table.entries}


def _object(item: SamObject, table: MaskTable) -> dict[str, Any]:
    return {
        "uid": int(item.uid),
        "id": int(item.id),
        "class": int(item.class_id),
        "source": str(item.source),
        "accepted": bool(item.accepted),
        "prompts": [_on(p, _prompts(drawn, table)) for p, drawn in item.prompts.items()],
        "answers": [_on(p, _answer(a, item.prompts.get(p), table)) for p, a in item.answers.items()],
        "base": [_on(p, _answer(a, item.prompts.get(p), table)) for p, a in item.base.items()],
        "hand": [
            _on(p, {"added": table.number(h.added), "removed": table.number(h.removed)})
            for p, h in item.hand.items()
        ],
        "masks": [_on(p, {"mask": table.number(mask)}) for p, mask in item.masks.items()],
        "taken": [
            _on(p, {"from": [{"uid": int(uid), "mask": table.number(m)} for uid, m in lent.items()]})
            for p, lent in item.taken.items()
        ],
        **({"parent": int(item.parent)} if item.parent else {}),
    }


def _on(plane: Plane, value: dict[str, Any]) -> dict[str, Any]:
    return {"plane": [None if i is None else int(i) for i in plane.index], **value}


def _prompts(prompts: Prompts, table: MaskTable) -> dict[str, Any]:
    result: dict[str, Any] = {"points": prompts.points.tolist(), "labels": prompts.labels.tolist()}
    if prompts.box is not None:
        result["box"] = prompts.box.tolist()
    if prompts.mask_input is not None:
        result["logits"] = base64.b64encode(prompts.mask_input.astype("<f4").tobytes()).decode("ascii")
    if prompts.mask is not None:
        result["mask"] = table.number(prompts.mask)
    if prompts.scribbles:
        result["scribbles"] = [{"path": s.path.tolist(), "label": s.label} for s in prompts.scribbles]
    if prompts.lasso is not None:
        result["lasso"] = prompts.lasso.tolist()
    return result


def _answer(answer: Answer, drawn: Prompts | None, table: MaskTable) -> dict[str, Any]:
    prompts: Any = None
    if answer.prompts is not None:
        prompts = AS_DRAWN if answer.prompts == drawn else _prompts(answer.prompts, table)
    limits = answer.look.contrast_limits
    # Only where there is one, as in files of older versions.
    stability = {} if answer.stability is None else {"stability": Field.written(answer.stability)}
    return {
        "candidates": [
            {"mask": table.number(mask), "score": None if score is None else Field.written(score)}
            for mask, score in answer.candidates
        ],
        "chosen": int(answer.chosen),
        "prompts": prompts,
        "model": answer.model,
        "digest": answer.digest,
        "contrast_limits": None if limits is None else [Field.written(limit) for limit in limits],
        "gamma": Field.written(answer.look.gamma),
        **stability,
        **({"propagated": True} if answer.propagated else {}),
    }


def from_json(
    data: Any, rows: Iterable[Any] = (), *, name: str = "The annotation"
) -> tuple[Snapshot, ImageIdentity | None, Info]:
    """What :func:`to_json` was given, without what automatic runs found.

    Parameters
    ----------
    data : object
        As :func:`json.loads` returns it.
    rows : iterable
        More objects, each as :func:`object_to_json` returns it.
    name : str
        What the file is called in errors.

    Raises
    ------
    AnnotationError
        If anything in it is not as it should be, or it was written by a newer version of napari-sam.
    """
    top = Field(data, document=name)
    info = _info(top)
    shape = top["shape"].wholes(low=1)
    if not 2 <= len(shape) <= 32:
        top["shape"].fail("not the shape of an image")
    parts = [Field(row, f"row {number}", name) for number, row in enumerate(rows)]
    tables = read_masks([one["masks"] for one in (top, *parts)], _free_memory())
    reader = Reader(shape, tables[0])
    objects = [reader.object(item) for item in top["objects"]]
    for part, masks in zip(parts, tables[1:], strict=True):
        objects.append(Reader(shape, masks).object(part["object"]))
    objects.sort(key=lambda item: item.uid)
    opened = top.get("opened")
    snapshot = Snapshot(
        shape=shape,
        objects=tuple(objects),
        current=top["current"].whole(0),
        opened=None if opened is None else reader.object(opened),
        next_id=top["next_id"].whole(1),
        next_uid=top["next_uid"].whole(0),
        classes=tuple(
            ObjectClass(c["id"].whole(1), c["name"].text(), c["colour"].text()) for c in top["classes"]
        ),
    )
    _check(snapshot, top)
    image = top.get("image")
    identity = None
    if image is not None:
        identity = ImageIdentity(image["shape"].wholes(), image["dtype"].text(), image["digest"].text())
    return snapshot, identity, info


def _info(top: Field) -> Info:
    if not isinstance(top.value, dict) or top.value.get("format") != FORMAT:
        raise AnnotationError(f"{top.document} is no annotation of napari-sam: choose another file.")
    version = top["version"].whole(1)
    if version > VERSION:
        raise AnnotationError(
            f"{top.document} is of version {version} of the format, and this napari-sam knows up to "
            f"version {VERSION}: update napari-sam to open it."
        )
    return Info(version, top["program"].text(), top["created"].text())


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _check(snapshot: Snapshot, top: Field) -> None:
    """What must be so across objects, or commands would go wrong."""
    uids = [item.uid for item in snapshot.objects]
    ids = [item.id for item in snapshot.objects]
    for values, what in ((uids, "uid"), (ids, "id")):
        if len(set(values)) < len(values):
            top["objects"].fail(f"two objects have the same {what}")
    class_ids, names = ({getattr(one, what) for one in snapshot.classes} for what in ("id", "name"))
    for distinct, what in ((class_ids, "id"), (names, "name")):
        if len(distinct) < len(snapshot.classes):
            top["classes"].fail(f"two classes have the same {what}")
    opened = () if snapshot.opened is None else (snapshot.opened,)
    for items, key in ((snapshot.objects, "objects"), (opened, "opened")):
        if not {item.class_id for item in items} <= {0, *class_ids}:
            top[key].fail("of a class that there is not")
    if snapshot.opened is not None and snapshot.opened.uid != snapshot.current:
        top["opened"].fail("not the current object")
    known = {item.uid: item for item in snapshot.objects}
    before = {} if snapshot.opened is None else {snapshot.current: snapshot.opened}
    if has_cycle(known) or has_cycle({**known, **before}):
        top["objects"].fail("an object that descends from itself")
    if max((item.parent for item in (*known.values(), *before.values())), default=0) >= snapshot.next_uid:
        top["objects"].fail("a parent that there has never been")
    if snapshot.next_uid <= max(uids, default=0) or snapshot.next_uid <= snapshot.current:
        top["next_uid"].fail("taken")
    if snapshot.current not in uids and snapshot.next_id in ids:
        top["next_id"].fail("taken")
