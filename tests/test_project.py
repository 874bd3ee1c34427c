"""What the project says about itself is true: its commands, its metadata, its package, its pages."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import napari
import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

import napari_sam

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def opens_a_viewer(page: Path) -> bool:
    return any("Viewer(" in block for block in blocks(page, "python"))


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def run_blocks(page: Path) -> dict[str, object]:
    """Run a page's python blocks one after the other, as a reader would, and return their namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)
    return namespace


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
HEADLESS = [page for page in WITH_PYTHON if not opens_a_viewer(page)]
IN_A_VIEWER = [page for page in WITH_PYTHON if opens_a_viewer(page)]


def test_the_readme_opens_with_commands_that_make_knows() -> None:
    commands = re.findall(r"^    make (\S+)", README, flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    assert README.index("    make demo") < README.index("\n## ")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = page.read_text()
    for target in re.findall(r"(?:`|^    )make (?:-k )?([a-z-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_ci_runs_make_test_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1:] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]


def test_the_manifest_at_the_top_is_a_link_to_the_packaged_one() -> None:
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert link.readlink() == Path("napari_sam/napari.yaml")
    assert yaml.safe_load(link.read_text())["name"] == "napari-sam"


def test_the_menu_entries_that_the_pages_name_are_those_of_the_manifest() -> None:
    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text())
    widgets = manifest["contributions"]["widgets"]
    plugin = manifest["display_name"]
    # As napari names them if a plugin has several widgets, and commands in other menus, too.
    segment, train = (f"*Plugins > {plugin} > {widget['display_name']} ({plugin})*" for widget in widgets)
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    assert segment in README
    assert segment in tutorial
    assert train in (ROOT / "docs" / "how-to" / "train.md").read_text()
    (sample,) = re.findall(rf"File > Open Sample > {re.escape(plugin)} > ([^*]+)\*", tutorial)
    assert sample in [one["display_name"] for one in manifest["contributions"]["sample_data"]]


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == napari_sam.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog or f"## [{napari_sam.__version__}]" in changelog


def test_the_wheel_has_the_manifest_the_types_and_the_weights(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = {info.filename: info.file_size for info in archive.infolist()}
        (entry_points,) = (name for name in packed if name.endswith(".dist-info/entry_points.txt"))
        declared = archive.read(entry_points).decode()
    for needed in ("napari.yaml", "py.typed", "models/weights/nano.safetensors"):
        assert f"napari_sam/{needed}" in packed
    assert packed["napari_sam/napari.yaml"] > 0
    assert packed["napari_sam/models/weights/nano.safetensors"] < 12 * 2**20
    assert f"napari_sam-{napari_sam.__version__}" in entry_points
    assert "napari-sam = napari_sam:napari.yaml" in declared
    assert "napari-sam = napari_sam.cli:main" in declared
    assert not [name for name in packed if not name.startswith(("napari_sam/", "napari_sam-"))]


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = tomllib.loads(text)["project"]["dependencies"]
    assert declared
    for requirement in declared:
        assert re.search(rf'^    "{re.escape(requirement)}", +# \w+', text, flags=re.MULTILINE), requirement


def test_the_dependencies_are_what_the_package_imports() -> None:
    imported = set()
    for module in (ROOT / "napari_sam").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    homes = packages_distributions()
    needed = {homes[name][0].lower() for name in imported - sys.stdlib_module_names - {"napari_sam"}}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {Requirement(text).name for text in project["dependencies"]}
    extras = project["optional-dependencies"]
    optional = {Requirement(text).name for name in ("parquet", "video", "zarr") for text in extras[name]}
    assert declared == needed - optional


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_table_of_contents() -> None:
    def pages(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        children = node.values() if isinstance(node, dict) else node
        return [page for child in children for page in pages(child)]  # type: ignore[union-attr]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(written)


@pytest.mark.parametrize("page", HEADLESS, ids=names(HEADLESS))
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(page)


def test_the_readme_segments_the_coin_that_it_points_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    best = run_blocks(ROOT / "README.md")["best"]
    assert best.shape == (303, 384)  # type: ignore[attr-defined]
    assert best[196, 102]  # type: ignore[index]
    assert not best[235, 102]  # type: ignore[index]


@pytest.mark.gui
@pytest.mark.usefixtures("qapp")
@pytest.mark.parametrize("page", IN_A_VIEWER, ids=names(IN_A_VIEWER))
def test_python_blocks_run_in_a_viewer(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Not all viewers: other tests of this process share one.
    for made in run_blocks(page).values():
        if isinstance(made, napari.Viewer):
            made.close()


def test_the_shell_lines_of_the_tutorial_run(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    (script,) = blocks(ROOT / "docs" / "tutorial.md", "sh")
    environment = os.environ | {"PATH": path}
    subprocess.run(["sh", "-e"], input=script, text=True, cwd=tmp_path, env=environment, check=True)
    assert {"coins.png", "coin.tif", "coin.png"} <= {file.name for file in tmp_path.iterdir()}
