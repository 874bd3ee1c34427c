"""A session that a script drives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_sam.ui.controller import Controller

if TYPE_CHECKING:
    import napari
    from napari.layers import Image

__all__ = ["annotate"]


def annotate(
    viewer: napari.Viewer,
    image_layer: Image | None = None,
    model: str | os.PathLike[str] = "nano",
    device: str = "auto",
) -> Controller:
    """Open the widget in a viewer, and drive it from a script.

    Parameters
    ----------
    viewer : napari.Viewer
    image_layer : napari.layers.Image, optional
        The image to segment; the selected one if not given.
    model : str or path, default "nano"
        A name of `napari_sam.models.available_models`, which is downloaded in the background if need be, or
        the path of a checkpoint.
    device : str, default "auto"
        "auto", "cpu", "cuda:0", "mps", ...

    Returns
    -------
    Controller
        What is done through it shows in the widget and can be continued there by hand, and the other way
        round.

    Examples
    --------
    >>> import napari, napari_sam
    >>> from skimage.data import coins
    >>> viewer = napari.Viewer()                                          # doctest: +SKIP
    >>> session = napari_sam.annotate(viewer, viewer.add_image(coins()))  # doctest: +SKIP
    >>> session.add_point((90, 215))                                      # doctest: +SKIP
    >>> session.accept()                                                  # doctest: +SKIP
    >>> session.add_box((170, 40), (225, 100))                            # doctest: +SKIP
    >>> session.labels.max()                                              # doctest: +SKIP
    2
    """
    from napari_sam.ui.widget import SegmentWidget

    widget = SegmentWidget(viewer, image=image_layer, model=os.fspath(model), device=device)
    viewer.window.add_dock_widget(widget, name="Segment (napari-sam)", area="right")
    return widget.controller
