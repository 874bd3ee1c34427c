"""Many objects: made in one step, brought into view, shown by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari.layers import Labels
from psygnal import Signal

from napari_sam.annotation import SamObject, Source
from napari_sam.errors import ImageError, PromptError
from napari_sam.ui.controlling import Controlling
from napari_sam.ui.highlight_layer import HighlightLayer
from napari_sam.ui.layers import unwrap
from napari_sam.ui.many import prompts_from
from napari_sam.ui.viewing import bring_into_view

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_sam.ui.session import Session

__all__ = ["Overview"]


class Overview(Controlling):
    """The part of a controller for all objects of an image."""

    selection_changed = Signal()
    """Other objects are selected."""

    def segment_each(self, layer: Layer) -> None:
        """Make one object for each point, each shape's box, or each label of another layer, in one step."""
        layer = unwrap(layer)
        self._catch_up()
        session = self.session
        if session is None:
            return
        self._notice = ""
        try:
            many = prompts_from(layer, session)
        except PromptError as error:
            self._tell(str(error))
            return
        document = session.document

        def arrived(drafts: list[SamObject]) -> None:
            with document.step(f"Segment {many.what}"):
                added = document.add_objects(
                    [replace(draft, class_id=document.new_class) for draft in drafts]
                )
                hidden = [item.uid for item in added if not item.masks]
                document.delete(hidden)
            missing = many.number - len(drafts)
            nothing = f"The model found nothing for {missing} of {many.what}." if missing else ""
            there = f"{len(hidden)} of {many.what} lie in objects that are there already." if hidden else ""
            self._say(document, " ".join(said for said in (many.skipped, nothing, there) if said))
            self.changed.emit()

        source = Source.IMPORTED if isinstance(layer, Labels) else Source.CLICKED
        self._work.segment_many(session, many.prompts, source, arrived)

    def show_objects(self, uids: Sequence[int]) -> None:
        """Bring objects into view."""
        session = self.session
        items = [] if session is None else [i for uid in uids if (i := session.document.get(uid)) is not None]
        if session is not None and items:
            bring_into_view(self.viewer, session, items)
        self.highlight(uids)

    # Outlines

    def _begin_overview(self) -> None:
        """Set up, once."""
        self._outlined: list[int] = []
        self._outlines: HighlightLayer | None = None

    @property
    def selected(self) -> list[int]:
        """The uids of the objects that were selected, in the table or with napari's picker."""
        session = self.session
        return [] if session is None else [uid for uid in self._outlined if uid in session.document]

    def highlight(self, uids: Sequence[int]) -> None:
        """Show the outlines of objects, and no others."""
        if self._outlined or uids:
            self._outlined = list(uids)
            self._outline_again()
            self.selection_changed.emit()

    def _outline_again(self) -> None:
        """Objects or the displayed plane changed."""
        session, layer = self.session, self._outlines
        if session is None or session.plane is None or layer is None or not (self._outlined or layer.layer):
            return
        plane, items = session.plane, (session.document.get(uid) for uid in self._outlined)
        # Pixels of objects are known on planes of the last two axes; none are shown on others.
        masks = [item.masks[plane] for item in items if item is not None and plane in item.masks]
        layer.show_masks(masks, plane)

    def _open_outlines(self, session: Session) -> None:
        self._outlined = []
        self._outlines = HighlightLayer(
            session.viewer, session.image, lambda: (session.prompts.shapes, session.prompts.points)
        )

    def _close_outlines(self, *, keep_layer: bool = False) -> None:
        if self._outlines is not None:
            self._outlines.close(keep_layer)
            self._outlines = None

    # Classes

    @property
    def classes_shown(self) -> bool:
        """Whether classes are shown instead of objects."""
        labels = None if self.session is None else self.session.result.class_labels
        return labels is not None and labels in self.viewer.layers and labels.visible

    def show_classes(self, shown: bool) -> None:
        """Show a layer of classes instead of that of objects, or the other way round."""
        if self.session is None:
            return
        try:
            objects = self.session.ensure_labels()
            classes = self.session.ensure_class_labels() if shown else self.session.result.class_labels
        # Those of a large image may not fit into memory.
        except ImageError as error:
            self._tell(str(error))
            return
        if classes is not None:
            classes.visible = shown
        objects.visible = not shown
        self.changed.emit()
