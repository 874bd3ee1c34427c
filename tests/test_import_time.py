from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "napari", "qtpy", "PyQt6", "PySide6", "skimage", "scipy", "vispy")


def loaded_by(statements: str) -> set[str]:
    """Heavy packages that a fresh interpreter has imported after `statements`."""
    code = f"{statements}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_by("import napari_sam; napari_sam.__version__; dir(napari_sam)") == set()


def test_the_command_line_starts_without_torch() -> None:
    assert loaded_by("import napari_sam.cli, napari_sam.demo, napari_sam.inference.worker") == set()


@pytest.mark.parametrize("module", ["image", "mask", "prompts", "worker", "files"])
def test_describing_prompts_and_masks_needs_no_torch(module: str) -> None:
    assert loaded_by(f"import napari_sam.inference.{module}") == set()


def test_python_use_needs_no_gui() -> None:
    loaded = loaded_by("import napari_sam; napari_sam.SamPredictor; napari_sam.load_model")
    assert "torch" in loaded
    assert not loaded & {"napari", "qtpy", "PyQt6", "PySide6", "vispy"}


def test_segmenting_loads_no_second_llvm() -> None:
    """Triton brings one, beside which software OpenGL may crash: no part of the plugin needs it."""
    statements = """
import sys, napari_sam
from napari_sam.inference.automatic import SamAutomaticMaskGenerator
from napari_sam.inference.filtering import Filter, Sieve
from skimage.data import coins
image = coins()[:128, :128]
annotation = napari_sam.Annotation(image, 'nano', device='cpu')
annotation.add_point(45, 40)
annotation.accept()
Sieve(SamAutomaticMaskGenerator(annotation.model, prompts='centres').candidates(image)).select(Filter())
assert 'triton' not in sys.modules
"""
    assert "torch" in loaded_by(statements)
