"""The gallery of `examples/`: each with what it printed and drew in full, stored by `docs/gallery/collect.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "examples"  # in the site
FIGURES = ("models", "interop", "gallery")  # where figures of examples are: with the page that shows them, too
ORDER = (
    "ragged_classification", "predict_sine", "numpy_loop", "numpy_pipeline", "from_pytorch", "japanese_vowels_sklearn",
    "binary_addition", "bptt", "predict_word", "translate_numbers", "seq2seq_sine_cosine", "speech_classification",
    "dialogue", "tree_sentiment", "word_vectors", "vae_digits", "vqvae_digits", "realtime_audio",
)  # fmt: skip
INDENTED = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)  # lines of commands, diagrams, samples


class Order:
    """Easy ones first; those that `ORDER` doesn't know come last."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[int, str]:
        stem = Path(name).stem
        return (ORDER.index(stem) if stem in ORDER else len(ORDER), stem)


def settings(here: Path) -> dict[str, Any]:
    """Settings of sphinx-gallery: nothing is run."""
    return {
        "examples_dirs": str(here.parent / "examples"),
        "gallery_dirs": FOLDER,
        "filename_pattern": r"^nothing$",
        "within_subsection_order": "gallery.Order",
        "default_thumb_file": str(here / "_static" / "thumbnail.png"),
        "download_all_examples": False,
        "show_signature": False,
        "min_reported_time": 1e9,
        "remove_config_comments": True,
        "copyfile_regex": "",
    }


def figure(here: Path, name: str) -> str | None:
    """Where the figure of an example is, from the root of the pages."""
    return next((f"/{d}/{name}.png" for d in FIGURES if (here / d / f"{name}.png").exists()), None)


def results(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put figure and output between an example's text and its code."""
    folder, _, name = docname.rpartition("/")
    if folder != FOLDER or name in {"index", "sg_execution_times"}:
        return
    here = Path(app.srcdir)
    shown: list[str] = []
    image = figure(here, name)
    if image:
        shown += [f".. image:: {image}", "   :alt: The figure that the example draws", "   :class: result", ""]
    printed = here / "gallery" / f"{name}.txt"
    if printed.exists():
        lines = printed.read_text(encoding="utf-8").splitlines()
        shown += ["It prints", "", ".. code-block:: text", "", *(f"    {line}" for line in lines), ""]
    text, code, rest = source[0].partition("\n.. code-block:: Python\n")
    head, line, text = text.partition("\n.. _sphx_glr_")  # what sphinx-gallery writes comes before, our words behind
    text = INDENTED.sub("\n.. code-block:: text\n\n\\g<0>", text)
    source[0] = "\n".join([head + line + text, *shown, "The program", "-----------", code + rest])


def thumbnails(app: Sphinx) -> None:
    """Show the stored figures in the overview, where sphinx-gallery puts those of examples that it runs."""
    from sphinx_gallery.utils import scale_image

    here = Path(app.srcdir)
    for thumbnail in (here / FOLDER / "images" / "thumb").glob("sphx_glr_*_thumb.*"):
        name = thumbnail.stem.removeprefix("sphx_glr_").removesuffix("_thumb")
        image = figure(here, name)
        if image and thumbnail.suffix == ".png":
            scale_image(str(here) + image, str(thumbnail), 400, 280)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what happens after sphinx-gallery has written its pages."""
    app.connect("builder-inited", thumbnails, priority=900)
    app.connect("source-read", results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
