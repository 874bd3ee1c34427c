"""Keys through napari's action manager, and scripted sessions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from canvas import Canvas, iou, settle, turn
from napari.layers import Labels, Points, Shapes
from napari.utils.action_manager import action_manager
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt

import napari_sam
from napari_sam.ui.actions import ACCEPT, keys
from napari_sam.ui.controller import Controller

pytestmark = pytest.mark.gui


def test_default_keys_are_free_where_they_are_needed(on_coins: Controller) -> None:
    ours = {str(coerce_keybinding(key)) for name in action_manager._actions if name.startswith("napari-sam:")
            for key in action_manager._shortcuts[name]}  # fmt: skip
    # Layers have their own uses for some digits, which then do not choose a class.
    ours -= set("1234567")
    assert len(ours) == 27
    for name, bound in default_shortcuts.items():
        provider = action_manager._actions[name].keymapprovider if name in action_manager._actions else None
        if provider in (Points, Shapes, Labels) or provider is type(on_coins.viewer).__mro__[1]:
            assert not ours & {str(coerce_keybinding(key)) for key in bound}, name
    # In the layer that shows the objects, undo is that of the document: see test_undo.py.
    for layer, taken in ((Points, set()), (Shapes, set()), (Labels, {"Ctrl+Z", "Ctrl+Shift+Z"})):
        assert ours & {str(key) for key in layer.class_keymap} == taken


@pytest.mark.parametrize("active", ["coins", "coins: points", "coins: shapes", "coins: objects"])
def test_accepting_works_whichever_layer_is_active(
    on_coins: Controller, canvas: Canvas, centres, active: str
) -> None:
    on_coins.add_point(centres[3])
    settle(on_coins)
    on_coins.viewer.layers.selection.active = on_coins.viewer.layers[active]
    canvas.key(Qt.Key.Key_N)
    assert on_coins.session.document.current.id == 2


def test_another_key_can_be_chosen(on_coins: Controller, canvas: Canvas, centres) -> None:
    on_coins.add_point(centres[3])
    settle(on_coins)
    try:
        action_manager.unbind_shortcut(ACCEPT)
        action_manager.bind_shortcut(ACCEPT, "Ctrl-J")
        assert "J" in keys.text(ACCEPT)
        canvas.key(Qt.Key.Key_N)
        assert on_coins.session.document.current.id == 1
        canvas.key(Qt.Key.Key_J, Qt.KeyboardModifier.ControlModifier)
        assert on_coins.session.document.current.id == 2
    finally:
        action_manager.unbind_shortcut(ACCEPT)


def test_keys_come_and_go_with_the_widget(viewer, open_widget, coins) -> None:
    viewer.add_image(coins, name="coins")
    for _ in range(2):
        widget = open_widget()
        assert keys.text(ACCEPT) == "N"
        assert "(N)" in widget.current.accept_button.text()
        assert action_manager._shortcuts[ACCEPT]
        viewer.window.remove_dock_widget(widget)
        assert keys.text(ACCEPT) == ""
        assert not action_manager._shortcuts.get(ACCEPT)


def test_the_key_goes_to_the_widget_whose_layer_is_active(viewer, open_widget, coins, canvas) -> None:
    viewer.add_image(coins, name="coins")
    first, second = open_widget().controller, open_widget(image=viewer.layers["coins"]).controller
    first.set_tool("positive")
    canvas.key(Qt.Key.Key_Q)
    assert (first.tool, second.session.prompts.polarity) == ("negative", "positive")
    second.set_tool("positive")
    canvas.key(Qt.Key.Key_Q)
    assert (first.session.prompts.polarity, second.tool) == ("negative", "negative")
    settle(first)
    settle(second)


def test_a_scripted_session(viewer, coins, centres, true_coins) -> None:
    image = viewer.add_image(coins, name="coins")
    controller = napari_sam.annotate(viewer, image, device="cpu")
    try:
        controller.add_point(centres[3])
        controller.accept()
        controller.add_box(np.subtract(centres[12], 33), np.add(centres[12], 33))
        controller.add_point(np.add(centres[12], 3))
        labels = controller.labels
        for number, at in ((1, centres[3]), (2, centres[12])):
            assert iou(labels == number, true_coins == true_coins[round(at[0]), round(at[1])]) > 0.9
        controller.reject()
        assert set(np.unique(controller.labels)) == {0, 1}
    finally:
        viewer.window.remove_dock_widget("all")
    turn()
    assert controller.closed


def test_it_is_the_mask_of_the_other_faces(viewer, coins, centres) -> None:
    controller = napari_sam.annotate(viewer, viewer.add_image(coins, name="coins"), device="cpu")
    try:
        for points in (centres[:1], centres[:2]):
            for at in points:
                controller.add_point(at)
            predictor = napari_sam.SamPredictor(napari_sam.load_model("nano", device="cpu"))
            predictor.set_image(coins)
            masks, scores, _ = predictor.predict(np.array(points)[:, ::-1], np.ones(len(points)))
            np.testing.assert_array_equal(controller.labels > 0, masks[np.argmax(scores)])
            controller.reject()
    finally:
        viewer.window.remove_dock_widget("all")


def test_opening_the_widget_does_not_import_torch() -> None:
    code = (
        "import sys, napari; from napari.components import ViewerModel;"
        "from qtpy.QtWidgets import QApplication; app = QApplication([]);"
        "from napari_sam.ui.widget import SegmentWidget; import numpy as np;"
        "v = ViewerModel(); v.add_image(np.zeros((50, 50))); w = SegmentWidget(v);"
        "print('torch' in sys.modules); w.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_menu_opens_it(viewer, coins, centres, canvas: Canvas) -> None:
    """napari hands plugins a proxy of the viewer, not the viewer."""
    from npe2 import PluginManager, PluginManifest

    manifest = PluginManifest.from_file(Path(napari_sam.__file__).parent / "napari.yaml")
    plugins = PluginManager.instance()
    known = manifest.name in plugins
    if not known:
        plugins.register(manifest)
    try:
        viewer.add_image(coins, name="coins")
        dock, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment")
        viewer.reset_view()
        settle(widget.controller)
        canvas.click(viewer.layers["coins"], centres[3])
        settle(widget.controller)
        assert widget.controller.labels[round(centres[3][0]), round(centres[3][1])] == 1
        dock.destroyOnClose()
        assert widget.controller.closed
        widget.deleteLater()
        viewer.layers.clear()
        turn()
        viewer.open_sample("napari-sam", "cell")
        assert viewer.layers["cell"].data.shape == (660, 550)
    finally:
        if not known:
            plugins.unregister(manifest.name)
