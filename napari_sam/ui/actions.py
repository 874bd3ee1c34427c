"""Keys, through napari's action manager: they are in Preferences > Shortcuts, and users can choose others.

The actions belong to the viewer, so that they work whichever layer is active. The default keys are free on
every layer type that one works with here (Points, Shapes, Labels), since a layer's own keys come first. What
an Image layer takes for itself has a second key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.components import ViewerModel
from napari.settings import get_settings
from napari.utils.action_manager import action_manager
from psygnal import Signal

if TYPE_CHECKING:
    from napari_sam.annotation import Document
    from napari_sam.ui.controller import Controller

__all__ = [
    "ACCEPT",
    "BACKWARD",
    "BOX",
    "CANDIDATE",
    "FORWARD",
    "LASSO",
    "POLARITY",
    "PROPAGATE",
    "REDO",
    "REJECT",
    "SCRIBBLE",
    "UNDO",
    "keys",
]

ACCEPT, REJECT = "napari-sam:accept_object", "napari-sam:reject_object"
UNDO, REDO = "napari-sam:undo", "napari-sam:redo"
POLARITY, BOX = "napari-sam:toggle_polarity", "napari-sam:toggle_box"
SCRIBBLE, LASSO = "napari-sam:toggle_scribble", "napari-sam:toggle_lasso"
CANDIDATE = "napari-sam:next_candidate"
PREVIEW = "napari-sam:toggle_preview"
PROPAGATE = "napari-sam:propagate"
BACKWARD, FORWARD = "napari-sam:propagate_backward", "napari-sam:propagate_forward"


class _Action(NamedTuple):
    run: Callable[[Controller], None]
    description: str
    keys: tuple[str, ...]


def _toggle_preview(controller: Controller) -> None:
    controller.preview = not controller.preview


def _class_action(number: int) -> _Action:
    return _Action(
        lambda controller: controller.choose_class(number),
        f"Segment Anything: class {number} for the current object and those that follow",
        # napari's layers take the plain numbers for their own tools, up to 5 or 7.
        (str(number), f"Alt-{number}"),
    )


_ACTIONS = {
    ACCEPT: _Action(
        lambda controller: controller.accept(),
        "Segment Anything: accept the object, go on to the next",
        ("N",),
    ),
    REJECT: _Action(
        lambda controller: controller.reject(),
        "Segment Anything: reject the object, clear its mask and prompts",
        ("Shift-Delete", "Shift-Backspace"),
    ),
    UNDO: _Action(
        lambda controller: controller.undo(),
        "Segment Anything: undo",
        ("Control-Z",),
    ),
    REDO: _Action(
        lambda controller: controller.redo(),
        "Segment Anything: redo",
        ("Control-Shift-Z",),
    ),
    POLARITY: _Action(
        lambda controller: controller.toggle_polarity(),
        "Segment Anything: switch between points on the object and on the background",
        ("Q",),
    ),
    BOX: _Action(
        lambda controller: controller.toggle_tool("box"),
        "Segment Anything: switch between points and boxes",
        ("W",),
    ),
    SCRIBBLE: _Action(
        lambda controller: controller.toggle_tool("scribble"),
        "Segment Anything: switch between points and scribbles",
        ("U",),
    ),
    LASSO: _Action(
        lambda controller: controller.toggle_tool("lasso"),
        "Segment Anything: switch between points and the lasso",
        ("O", "Alt-O"),
    ),
    CANDIDATE: _Action(
        lambda controller: controller.next_candidate(),
        "Segment Anything: the next mask that the click may mean",
        ("C", "Alt-C"),
    ),
    PREVIEW: _Action(
        _toggle_preview,
        "Segment Anything: switch the preview under the mouse on or off",
        ("H",),
    ),
    PROPAGATE: _Action(
        lambda controller: controller.propagate(),
        "Segment Anything: propagate the object to other planes, in both directions",
        ("G",),
    ),
    BACKWARD: _Action(
        lambda controller: controller.propagate("backward"),
        "Segment Anything: propagate the object to lower planes",
        ("J",),
    ),
    FORWARD: _Action(
        lambda controller: controller.propagate("forward"),
        "Segment Anything: propagate the object to higher planes",
        ("K",),
    ),
    **{f"napari-sam:class_{number}": _class_action(number) for number in range(1, 10)},
}


class Keys:
    """Binds the keys while at least one widget is open, and knows which widget they are meant for."""

    changed = Signal()
    """The user chose other keys."""

    def __init__(self) -> None:
        self._controllers: list[Controller] = []
        self._bound: defaultdict[str, list[str]] = defaultdict(list)

    def open(self, controller: Controller) -> None:
        """Keys work for this controller, too."""
        self._controllers.append(controller)
        if len(self._controllers) > 1:
            return
        action_manager.events.shortcut_changed.connect(self._on_shortcut)
        chosen = get_settings().shortcuts.shortcuts
        for name, action in _ACTIONS.items():
            action_manager.register_action(name, self._command(name), action.description, ViewerModel)
            # Preferences saved while no widget was open hold no keys for these actions.
            for key in chosen.get(name) or action.keys:
                action_manager.bind_shortcut(name, key)

    def close(self, controller: Controller) -> None:
        """Keys do not work for this controller any more."""
        if controller not in self._controllers:
            return
        self._controllers.remove(controller)
        if not self._controllers:
            for name in _ACTIONS:
                action_manager.unbind_shortcut(name)
            action_manager.events.shortcut_changed.disconnect(self._on_shortcut)

    def undo(self, document: Document) -> None:
        """Take back the newest step of a document, whichever image its widget shows meanwhile."""
        self._move(document, back=True)

    def redo(self, document: Document) -> None:
        """Do again what was undone last in a document."""
        self._move(document, back=False)

    def _move(self, document: Document, *, back: bool) -> None:
        working = next((one for one in self._controllers if one.works_on(document)), None)
        if working is not None:
            working.move_in_history(document, back=back)
        elif back:
            document.undo()
        else:
            document.redo()

    def text(self, name: str) -> str:
        """The keys of an action, in words; empty if there are none."""
        return " or ".join(self._bound[name])

    def _command(self, name: str) -> Callable[[ViewerModel], None]:
        def command(viewer: ViewerModel) -> None:
            controller = self._meant(viewer)
            if controller is not None:
                _ACTIONS[name].run(controller)

        # napari resolves annotations of what it calls; these are not to be looked up in this module.
        command.__annotations__ = {"viewer": ViewerModel, "return": None}
        command.__name__ = name.partition(":")[2]
        return command

    def _meant(self, viewer: ViewerModel) -> Controller | None:
        """The controller of the active layer, else the one that was opened last in this viewer."""
        here = [controller for controller in self._controllers if controller.viewer is viewer]
        active = viewer.layers.selection.active
        return next((c for c in here if c.owns(active)), here[-1] if here else None)

    def _on_shortcut(self, event: Any) -> None:
        if event.name in _ACTIONS:
            if event.shortcut:
                self._bound[event.name].append(str(event.shortcut).replace("-", "+"))
            else:
                self._bound.pop(event.name, None)
            self.changed.emit()


keys = Keys()
"""The one binder, as there is one action manager."""
