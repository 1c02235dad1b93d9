"""Names in code type lead to the reference: `fr.LSTM`, `F.gru`, `Model` in a page or a docstring."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAME = re.compile(r"(?:(fr|fastrnn|F)\.)?([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", re.DOTALL)
BEFORE = {"fr": "fastrnn.", "fastrnn": "fastrnn.", "F": "fastrnn.functional."}
# where a class spoken of by its name alone may be
CLASSES = ("fastrnn.", "fastrnn.models.", "fastrnn.nn.", "fastrnn.optim.", "fastrnn.text.")
FOREIGN = ("moving/", "interop/")  # pages where `LSTM` and `F.gru` may be another library's
SCRIPT = re.compile(r"examples/(\w+)\.py")
INSIDE = (nodes.reference, nodes.title, nodes.literal_block)


class Links(SphinxPostTransform):
    """Turns literals that name something public into links."""

    default_priority = 700

    def run(self, **kwargs: object) -> None:
        """Go through the page."""
        for node in list(self.document.findall(nodes.literal)):
            if not any(isinstance(parent, INSIDE) for parent in parents(node)):
                self.link(node)

    def link(self, node: nodes.literal) -> None:
        """Put a reference around one literal, if its name is known and has another page than this one."""
        here = self.env.docname
        place = self.place(node.astext(), bare=not here.startswith(FOREIGN))
        if place and place[0] != (here if "/generated/" in here else None):
            node.replace_self(make_refnode(self.app.builder, here, *place, node.deepcopy(), node.astext()))

    def place(self, text: str, bare: bool) -> tuple[str, str] | None:
        """Page and anchor of what a piece of code names."""
        script = SCRIPT.fullmatch(text)
        if script and f"examples/{script[1]}" in self.env.found_docs:
            return f"examples/{script[1]}", ""
        objects = self.env.domaindata["py"]["objects"]
        found = next((objects[name] for name in candidates(text, bare) if name in objects), None)
        return found and (found.docname, found.node_id)


def parents(node: nodes.Node) -> list[nodes.Node]:
    """All that a node is in."""
    above = []
    while node.parent is not None:
        node = node.parent
        above.append(node)
    return above


def candidates(text: str, bare: bool) -> list[str]:
    """Full names that a piece of code may stand for; `bare` ones such as `LSTM`, too."""
    found = NAME.fullmatch(text)
    if not found:
        return []
    start, rest = found.groups()
    if start:
        return [BEFORE[start] + rest] if bare or start != "F" else []
    if not bare:
        return []
    if rest.startswith(("models.", "nn.", "losses.", "optim.", "train.", "functional.", "schedules.", "ops.", "init.")):
        return ["fastrnn." + rest]
    return [before + rest for before in CLASSES] if (rest[0].isupper() and not rest.isupper()) or rest in SHORT else []


SHORT = {"LSTM", "GRU", "RNN", "SRU", "QRNN", "LRU", "GELU", "HRED", "VHRED", "VAE", "VQVAE", "SGD"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
